import { asmModelOf } from '../ir/asm-model.ts';
import { textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { decodeFloat } from '../types/numeric.ts';
import { isBig, viewOf } from './lanes.ts';
import { firstLane } from './machine.ts';
import type { Handler } from './program.ts';
import { read, write, type Operand } from './registers.ts';

/** print, assert, trap and inline PTX that has a model. */

function shown(operand: Operand, value: number | bigint): string {
  switch (operand.type) {
    case 'pred':
      return value === 0 ? 'false' : 'true';
    case 'f16':
    case 'bf16':
    case 'e4m3':
    case 'e5m2':
      return String(decodeFloat(operand.type, value as number));
    default:
      if (TYPES[operand.type].kind === 'a' || TYPES[operand.type].kind === 'b') return `0x${value.toString(16)}`;
      if (TYPES[operand.type].kind === 'v')
        return `0x${BigInt.asUintN(TYPES[operand.type].bits, BigInt(value)).toString(16)}`;
      return String(value);
  }
}

const print: Handler = (node, program) => {
  const pieces = textOf(node, 'format').split('{}');
  const operands = node.args.map((value) => program.registers.of(value));
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0) continue;
      const values = operands.map((operand) => shown(operand, read(warp, operand, lane)));
      warp.cta.cluster.machine.printed.push(pieces.map((piece, i) => `${piece}${values[i] ?? ''}`).join(''));
    }
  };
};

const assertion: Handler = (node, program) => {
  const { at } = program.registers.of(node.args[0]);
  const message = textOf(node, 'message', 'a device assertion failed');
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0 || warp.n[at + lane] !== 0) continue;
      warp.report('assert', message, [warp.place('assert', lane)]);
      warp.cta.cluster.machine.findings.stopped = true;
      return;
    }
  };
};

/** Inline PTX, lane by lane, by the model that its author gave. */
const inline: Handler = (node, program) => {
  const model = asmModelOf(node.attributes);
  if (!model) {
    throw new KernelError('asm is simulated only with a model: asm(text, results, operands, { model })', node.position);
  }
  const operands = node.args.map((value) => program.registers.of(value));
  const results = node.results.map((value) => program.registers.of(value));
  return (warp) => {
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0) continue;
      const values = operands.map((operand) => {
        const value = read(warp, operand, lane);
        return operand.type === 'pred' ? value !== 0 : value;
      });
      const given = model(...values);
      const list: readonly unknown[] = Array.isArray(given) ? given : given === undefined ? [] : [given];
      if (list.length !== results.length) {
        throw new KernelError(`the model of asm gives ${list.length} results, not ${results.length}`, node.position);
      }
      for (const [i, result] of results.entries()) write(warp, result, lane, inLane(node, result.type, list[i]));
    }
  };
};

/** A model's value as lanes hold it. */
function inLane(node: Node, type: TypeName, value: unknown): number | bigint {
  if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean') {
    throw new KernelError(`the model of asm gives ${typeof value} where a ${type} is needed`, node.position);
  }
  const { bits, kind } = TYPES[type];
  if (type === 'pred') return value ? 1 : 0;
  if (kind === 'f' && bits >= 32) return type === 'f64' ? Number(value) : Math.fround(Number(value));
  const whole = BigInt(typeof value === 'number' ? Math.trunc(value) : value);
  const view = viewOf(type);
  const signed = kind === 'i' || view === 'q' || (view === 'n' && bits === 32);
  const wrapped = signed ? BigInt.asIntN(bits, whole) : BigInt.asUintN(bits, whole);
  return isBig(type) ? wrapped : Number(wrapped);
}

export const DEBUG_HANDLERS: Readonly<Record<string, Handler>> = {
  print,
  assert: assertion,
  asm: inline,
  trap: () => (warp) => {
    warp.report('trap', 'a thread ended the grid', [warp.place('trap', firstLane(warp.mask))]);
    warp.cta.cluster.machine.findings.stopped = true;
  },
};
