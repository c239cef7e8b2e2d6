import { flagOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { Meeting } from './clocks.ts';
import { located, locate, sharedTarget } from './locate.ts';
import { type AsyncOperation, type Cta, type MBarrierState, type Warp } from './machine.ts';
import { groupsOf } from './warp-state.ts';
import type { Handler, Program } from './program.ts';
import { readNumber, type Operand } from './registers.ts';

/** mbarriers: phases that wait for arrivals and for bytes of asynchronous copies (PTX ISA 9.0, "mbarrier"). */

const MOST_BYTES = 2 ** 20 - 1;

/** The barrier at an address, after checks; undefined after a finding. */
export function barrierAt(warp: Warp, lane: number, operand: Operand, node: Node): MBarrierState | undefined {
  const address = readNumber(warp, operand, lane);
  const facts = { bytes: 8, align: 8, writes: true, part: undefined };
  const region = locate(warp, lane, operand.type, address, facts);
  if (!region) return undefined;
  const offset = located;
  const { cta } = sharedTarget(warp, address);
  const state = cta!.mbarriers.get(offset);
  if (!state) {
    warp.report('mbarrier', `there is no mbarrier at ${region.describe(offset)}: mbarrier_init it first`, [
      warp.place(node.op, lane),
    ]);
    return undefined;
  }
  const { shadow } = warp.cta.cluster.machine;
  shadow.read(region, offset, 8, warp, lane, shadow.record(warp, node, true), true);
  return state;
}

function completeIfDone(state: MBarrierState, warp: Warp): void {
  if (state.pending !== 0 || state.bytes !== 0) return;
  state.phase++;
  state.pending = state.count;
  state.completed.join(state.meeting);
  warp.cta.cluster.machine.progress++;
}

/** Arrivals by a lane. */
export function arrive(state: MBarrierState, warp: Warp, lane: number, node: Node, count: number): void {
  arriveWith(state, warp, lane, node, count, () => warp.release(state.meeting, 1 << lane));
}

/** Arrivals that hand over what `release` says. */
export function arriveWith(
  state: MBarrierState,
  warp: Warp,
  lane: number,
  node: Node,
  count: number,
  release: () => void,
): void {
  if (count > state.pending) {
    warp.report(
      'mbarrier',
      `more arrivals than the ${state.count} that the mbarrier counts in a phase: ${count} came where ${state.pending} were missing`,
      [
        warp.placeOf(node, node.op, lane),
        state.init.warp.placeOf(state.init.node, 'its mbarrier_init', state.init.lane),
      ],
    );
    return;
  }
  release();
  state.pending -= count;
  completeIfDone(state, warp);
}

function expect(state: MBarrierState, warp: Warp, lane: number, node: Node, bytes: number): void {
  state.bytes += bytes;
  if (bytes >= 0 && Math.abs(state.bytes) <= MOST_BYTES) return;
  warp.report('mbarrier', `an mbarrier expects 0 to ${MOST_BYTES} bytes in a phase, not ${state.bytes}`, [
    warp.placeOf(node, node.op, lane),
  ]);
}

/** A copy has brought bytes; `counter` of the engine covers them. */
export function completeBytes(
  cta: Cta,
  offset: number,
  operation: Omit<AsyncOperation, 'complete' | 'done' | 'intoShared'>,
  bytes: number,
  counter: number,
): void {
  const { warp, node, lane } = operation;
  const state = cta.mbarriers.get(offset);
  if (!state) {
    warp.report('mbarrier', `a copy reports to ${cta.shared.describe(offset)}, where no mbarrier is`, [
      warp.placeOf(node, node.op, lane),
    ]);
    return;
  }
  state.meeting.before.add(warp.cta.engine, -1, counter);
  state.bytes -= bytes;
  completeIfDone(state, warp);
}

function init(node: Node, program: Program): ReturnType<Handler> {
  const operand = program.registers.of(node.args[0]);
  const count = numberOf(node, 'count');
  return (warp) => {
    const { shadow } = warp.cta.cluster.machine;
    const record = shadow.record(warp, node);
    for (let lane = 0; lane < 32; lane++) {
      if (((warp.mask >>> lane) & 1) === 0) continue;
      const region = locate(warp, lane, operand.type, readNumber(warp, operand, lane), {
        bytes: 8,
        align: 8,
        writes: true,
      });
      if (!region) continue;
      const offset = located;
      if (count < 1 || count > MOST_BYTES) {
        warp.report('mbarrier', `an mbarrier counts 1 to ${MOST_BYTES} arrivals, not ${count}`, [
          warp.place('mbarrier_init', lane),
        ]);
      }
      const old = warp.cta.mbarriers.get(offset);
      if (old) {
        warp.report('mbarrier', 'an mbarrier is initialised twice without mbarrier_invalidate in between', [
          old.init.warp.placeOf(old.init.node, 'first', old.init.lane),
          warp.place('again', lane),
        ]);
      }
      shadow.write(region, offset, 8, warp, lane, record, false, NOTHING);
      const { components } = warp.cta.cluster;
      warp.cta.mbarriers.set(offset, {
        ...{ offset, count, pending: count, bytes: 0, phase: 0 },
        meeting: new Meeting(components),
        completed: new Meeting(components),
        init: { node, warp, lane },
      });
    }
  };
}

const NOTHING = new Uint8Array(8).fill(0xff);

/** Runs for each active lane's barrier. */
function each(run: (state: MBarrierState, warp: Warp, lane: number) => void): Handler {
  return (node, program) => {
    const operand = program.registers.of(node.args[0]);
    return (warp) => {
      for (let lane = 0; lane < 32; lane++) {
        if (((warp.mask >>> lane) & 1) === 0) continue;
        const state = barrierAt(warp, lane, operand, node);
        if (state) run(state, warp, lane);
      }
    };
  };
}

const expectBytes: Handler = (node, program) => {
  const dynamic = node.args[1] ? program.registers.of(node.args[1]) : undefined;
  const known = dynamic ? 0 : numberOf(node, 'bytes');
  const arrives = flagOf(node, 'arrive', true);
  return each((state, warp, lane) => {
    expect(state, warp, lane, node, dynamic ? readNumber(warp, dynamic, lane) : known);
    if (arrives) arrive(state, warp, lane, node, 1);
  })(node, program);
};

/** Waiting for the phase of a parity; `tries` may give up. */
function wait(tries: boolean): Handler {
  return (node, program) => {
    const operand = program.registers.of(node.args[0]);
    const parity = program.registers.of(node.args[1]);
    const result = tries ? program.registers.of(node.results[0]) : undefined;
    return (warp) => {
      const { mask } = warp;
      const states: (MBarrierState | undefined)[] = [];
      for (let lane = 0; lane < 32; lane++) {
        if ((mask >>> lane) & 1) states[lane] = barrierAt(warp, lane, operand, node);
      }
      const parities = Array.from({ length: 32 }, (_, lane) => readNumber(warp, parity, lane) & 1);
      const isReady = (lane: number): boolean => {
        const state = states[lane];
        return state === undefined || (state.phase & 1) !== parities[lane];
      };
      const lanes = [...states.keys()].filter((lane) => (mask >>> lane) & 1);
      const resume = (): void => {
        const seen = new Set<MBarrierState>();
        for (const lane of lanes) {
          const state = states[lane];
          const done = isReady(lane);
          if (result) warp.n[result.at + lane] = done ? 1 : 0;
          if (!state || !done || seen.has(state)) continue;
          seen.add(state);
          warp.acquire(state.completed);
        }
      };
      if (lanes.every(isReady)) return resume();
      const late = lanes.find((lane) => !isReady(lane))!;
      warp.wait = {
        node,
        what: () => {
          const state = states[late]!;
          const part = warp.cta.shared.describe(state.offset);
          return `the phase of parity ${parities[late]} of the mbarrier at ${part}: ${state.pending} of ${state.count} arrivals and ${state.bytes} bytes are missing`;
        },
        ready: () => lanes.every(isReady),
        resume,
        ...(tries ? { giveUp: resume } : {}),
      };
    };
  };
}

/** The barrier gets an arrival when this thread's cp.async so far have ended. */
const copyArrive: Handler = (node, program) => {
  const counted = flagOf(node, 'noinc');
  return each((state, warp, lane) => {
    const list = groupsOf(warp.state.copies, lane);
    const before = [...list.groups.flat(), ...list.open];
    if (!counted) state.pending++;
    warp.cta.cluster.operations.push({
      node,
      warp,
      lane,
      done: false,
      intoShared: false,
      ready: () => before.every(({ done }) => done),
      complete: () => {
        for (const operation of before) operation.visible?.();
        list.open = list.open.filter((operation) => !before.includes(operation));
        list.groups = list.groups.map((group) => group.filter((operation) => !before.includes(operation)));
        arrive(state, warp, lane, node, 1);
      },
    });
  })(node, program);
};

/** What an ended CTA's barriers still wait for. */
export function checkBarriers(cta: Cta): void {
  for (const state of cta.mbarriers.values()) {
    if (state.bytes === 0) continue;
    const { node, warp, lane } = state.init;
    warp.report(
      'mbarrier',
      `the bytes that copies brought are not those that were expected: ${Math.abs(state.bytes)} ${state.bytes > 0 ? 'are missing' : 'are too many'} ` +
        `at the end in the mbarrier at ${cta.shared.describe(state.offset)}`,
      [warp.placeOf(node, 'its mbarrier_init', lane)],
    );
  }
}

export const MBARRIER_HANDLERS: Readonly<Record<string, Handler>> = {
  mbarrier_init: init,
  mbarrier_invalidate: each((state, warp) => {
    warp.cta.mbarriers.delete(state.offset);
  }),
  mbarrier_arrive: (node, program) => {
    const count = numberOf(node, 'count', 1);
    return each((state, warp, lane) => arrive(state, warp, lane, node, count))(node, program);
  },
  mbarrier_expect: expectBytes,
  mbarrier_try_wait: wait(true),
  mbarrier_wait: wait(false),
  mbarrier_fence_init: () => (warp) => {
    warp.fence(warp.mask);
    warp.publish();
  },
  fence_proxy_async: () => (warp) => {
    warp.fence(warp.mask);
  },
  cp_async_arrive: copyArrive,
};
