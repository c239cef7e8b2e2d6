import { choiceOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { combine } from './combine.ts';
import { isBig } from './lanes.ts';
import { firstLane, type Warp } from './machine.ts';
import type { Handler } from './program.ts';
import { read, write } from './registers.ts';

/** Operations that a warp's lanes do together (PTX ISA 9.0: shfl, vote, match, redux, elect). */

/** The lanes that an instruction names must execute it; says which do not. */
export function checkMembers(warp: Warp, node: Node): number {
  const members = numberOf(node, 'mask', 0xffffffff) | 0;
  const missing = members & warp.live & ~warp.mask;
  if (missing !== 0) {
    warp.report(
      'divergence',
      `${node.op} names lanes that do not execute it here (mask 0x${(missing >>> 0).toString(16)}): call it where all of them are`,
      [
        warp.place(node.op, firstLane(warp.mask)),
        { what: 'a lane that is elsewhere', position: undefined, thread: warp.thread(firstLane(missing)) },
      ],
    );
  }
  warp.synchronise();
  return members & warp.mask;
}

const shuffle: Handler = (node, program) => {
  const [value, source] = node.args.map((arg) => program.registers.of(arg));
  const [result, inRange] = node.results.map((each) => program.registers.of(each));
  const mode = choiceOf(node, 'mode', ['bfly', 'idx', 'up', 'down']);
  const width = numberOf(node, 'width', 32);
  const segment = 32 - width;
  const copy = new Int32Array(32);
  return (warp) => {
    const members = checkMembers(warp, node);
    const { n } = warp;
    for (let lane = 0; lane < 32; lane++) copy[lane] = n[value.at + lane];
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0) continue;
      const b = n[source.at + lane] & 31;
      const first = lane & segment;
      const last = first | (31 & ~segment);
      let from =
        mode === 'bfly' ? lane ^ b : mode === 'up' ? lane - b : mode === 'down' ? lane + b : first | (b & ~segment);
      const within = mode === 'up' ? from >= first : from <= last;
      if (!within) from = lane;
      if (((members >>> from) & 1) === 0 && ((warp.valid >>> from) & 1) === 1) {
        warp.report('divergence', 'shuffle reads from a lane that does not take part', [
          warp.place('shuffle', lane),
          { what: 'the lane that it reads', position: undefined, thread: warp.thread(from) },
        ]);
      }
      n[result.at + lane] = copy[from];
      if (inRange) n[inRange.at + lane] = within ? 1 : 0;
    }
  };
};

/** Lanes of a mask in which a predicate holds. */
export function ballot(warp: Warp, at: number, mask: number): number {
  let set = 0;
  for (let lane = 0; lane < 32; lane++) if ((mask >>> lane) & 1 && warp.n[at + lane] !== 0) set |= 1 << lane;
  return set;
}

function fill(warp: Warp, at: number, value: number): void {
  for (let lane = 0; lane < 32; lane++) if ((warp.mask >>> lane) & 1) warp.n[at + lane] = value;
}

const vote: Handler = (node, program) => {
  const name = choiceOf(node, 'function', ['all', 'any', 'uni', 'ballot']);
  const { at } = program.registers.of(node.args[0]);
  const result = program.registers.of(node.results[0]);
  return (warp) => {
    const members = checkMembers(warp, node);
    const set = ballot(warp, at, members);
    const value =
      name === 'ballot'
        ? set
        : name === 'any'
          ? set !== 0
          : name === 'all'
            ? set === members
            : set === 0 || set === members;
    fill(warp, result.at, Number(value));
  };
};

const match: Handler = (node, program) => {
  const name = choiceOf(node, 'function', ['any', 'all']);
  const operand = program.registers.of(node.args[0]);
  const [result, all] = node.results.map((each) => program.registers.of(each));
  const big = isBig(operand.type);
  return (warp) => {
    const members = checkMembers(warp, node);
    const bits = (lane: number): number | bigint => (big ? warp.Q[operand.at + lane] : warp.n[operand.at + lane]);
    for (let lane = 0; lane < 32; lane++) {
      if (((members >>> lane) & 1) === 0) continue;
      let same = 0;
      for (let other = 0; other < 32; other++) {
        if ((members >>> other) & 1 && bits(other) === bits(lane)) same |= 1 << other;
      }
      warp.n[result.at + lane] = name === 'any' || same === members ? same : 0;
      if (all) warp.n[all.at + lane] = same === members ? 1 : 0;
    }
  };
};

const warpReduce: Handler = (node, program) => {
  const name = choiceOf(node, 'function', ['add', 'min', 'max', 'and', 'or', 'xor']);
  const operand = program.registers.of(node.args[0]);
  const result = program.registers.of(node.results[0]);
  return (warp) => {
    const members = checkMembers(warp, node);
    let sum: number | bigint | undefined;
    for (let lane = 0; lane < 32; lane++) {
      if (((members >>> lane) & 1) === 0) continue;
      const value = read(warp, operand, lane);
      sum = sum === undefined ? value : combine(node, name, operand.type, sum, value);
    }
    for (let lane = 0; lane < 32; lane++) if ((members >>> lane) & 1) write(warp, result, lane, sum!);
  };
};

export const WARP_HANDLERS: Readonly<Record<string, Handler>> = {
  shuffle,
  vote,
  match,
  warp_reduce: warpReduce,
  warp_sync: (node) => (warp) => {
    checkMembers(warp, node);
  },
  elect: (node, program) => {
    const result = program.registers.of(node.results[0]);
    return (warp) => {
      checkMembers(warp, node);
      const leader = firstLane(warp.mask);
      for (let lane = 0; lane < 32; lane++)
        if ((warp.mask >>> lane) & 1) warp.n[result.at + lane] = lane === leader ? 1 : 0;
    };
  },
  active_mask: (node, program) => {
    const result = program.registers.of(node.results[0]);
    return (warp) => fill(warp, result.at, warp.mask);
  },
};
