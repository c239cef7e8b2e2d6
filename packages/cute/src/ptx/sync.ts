import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES } from '../types/dtype.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { suffixOf } from './registers.ts';

function maskOf(node: Node): string {
  return `0x${(numberOf(node, 'mask', 0xffffffff) >>> 0).toString(16)}`;
}

/** `bar.sync 0` and its like: all threads of the CTA, or `count` of them, at one of 16 barriers. */
function barrierOperands(node: Node, needed: boolean): string {
  const count = needed
    ? numberOf(node, 'count')
    : node.attributes.count === undefined
      ? undefined
      : numberOf(node, 'count');
  const id = numberOf(node, 'id', 0);
  return count === undefined ? `${id}` : `${id}, ${count}`;
}

function barrier(kind: 'sync' | 'arrive'): EmitNode {
  return (e, node) => {
    const aligned = flagOf(node, 'aligned', true) ? '.aligned' : '';
    e.line(`barrier.${kind}${aligned} ${barrierOperands(node, kind === 'arrive')}`);
  };
}

function barrierReduce(e: Emitter, node: Node): void {
  const name = choiceOf(node, 'function', ['and', 'or', 'popc']);
  const aligned = flagOf(node, 'aligned', true) ? '.aligned' : '';
  const type = name === 'popc' ? 'u32' : 'pred';
  const source = e.register(node.args[0]);
  e.line(
    `barrier.red.${name}${aligned}.${type} ${e.define(node.results[0])}, ${barrierOperands(node, false)}, ${source}`,
  );
}

function shuffle(e: Emitter, node: Node): void {
  const [value, lane] = node.args;
  if (TYPES[value.type].bits !== 32) throw e.error(`shuffle moves 32 bits, not ${value.type}`);
  const mode = choiceOf(node, 'mode', ['bfly', 'idx', 'up', 'down']);
  const width = numberOf(node, 'width', 32);
  if (![1, 2, 4, 8, 16, 32].includes(width)) throw e.error(`shuffle: width ${width} must be a power of two up to 32`);
  // Bits 8 to 12: the lanes' segment; bits 0 to 4: where reading stops (PTX ISA, shfl.sync).
  const clamp = ((32 - width) << 8) | (mode === 'up' ? 0 : 31);
  const sources = `${e.register(value)}, ${e.use(lane)}, ${clamp}, ${maskOf(node)}`;
  const result = e.define(node.results[0]);
  const inRange = node.results[1] ? `|${e.define(node.results[1])}` : '';
  e.line(`shfl.sync.${mode}.b32 ${result}${inRange}, ${sources}`);
}

function vote(e: Emitter, node: Node): void {
  const name = choiceOf(node, 'function', ['all', 'any', 'uni', 'ballot']);
  const type = name === 'ballot' ? 'b32' : 'pred';
  const source = e.register(node.args[0]);
  e.line(`vote.sync.${name}.${type} ${e.define(node.results[0])}, ${source}, ${maskOf(node)}`);
}

function match(e: Emitter, node: Node): void {
  const name = choiceOf(node, 'function', ['any', 'all']);
  const bits = TYPES[node.args[0].type].bits;
  if (bits !== 32 && bits !== 64) throw e.error(`match compares 32 or 64 bits, not ${node.args[0].type}`);
  const source = e.register(node.args[0]);
  const result = e.define(node.results[0]);
  const all = node.results[1] ? `|${e.define(node.results[1])}` : '';
  if (all !== '' && name === 'any') throw e.error('match any has one result');
  e.line(`match.${name}.sync.b${bits} ${result}${all}, ${source}, ${maskOf(node)}`);
}

function warpReduce(e: Emitter, node: Node): void {
  const [value] = node.args;
  const name = choiceOf(node, 'function', ['add', 'min', 'max', 'and', 'or', 'xor']);
  let type = suffixOf(value.type);
  if (value.type === 'f32') {
    if (name !== 'min' && name !== 'max') throw e.error(`warp_reduce of f32 is min or max, not ${name}`);
    e.need(8.6, 'sm_100a', 'warp_reduce of f32');
  } else if (name === 'and' || name === 'or' || name === 'xor') type = 'b32';
  e.line(`redux.sync.${name}.${type} ${e.define(node.results[0])}, ${e.register(value)}, ${maskOf(node)}`);
}

function fence(e: Emitter, node: Node): void {
  const scope = choiceOf(node, 'scope', ['cta', 'cluster', 'gpu', 'sys'], 'gpu');
  if (scope === 'cluster') e.need(7.8, 'sm_90', 'a fence of the cluster');
  e.line(`fence.${choiceOf(node, 'order', ['acq_rel', 'sc'], 'acq_rel')}.${scope}`);
}

function sleep(e: Emitter, node: Node): void {
  e.line(`nanosleep.u32 ${e.use(node.args[0])}`);
}

export const SYNC_EMITTERS: Readonly<Record<string, EmitNode>> = {
  barrier: barrier('sync'),
  barrier_arrive: barrier('arrive'),
  barrier_reduce: barrierReduce,
  warp_sync: (e, node) => e.line(`bar.warp.sync ${maskOf(node)}`),
  shuffle,
  vote,
  match,
  warp_reduce: warpReduce,
  elect: (e, node) => e.line(`elect.sync _|${e.define(node.results[0])}, 0xffffffff`),
  active_mask: (e, node) => e.line(`activemask.b32 ${e.define(node.results[0])}`),
  fence,
  nanosleep: sleep,
};
