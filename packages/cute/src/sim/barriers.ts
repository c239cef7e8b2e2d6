import { choiceOf, flagOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { Meeting } from './clocks.ts';
import { countLanes, firstLane, type Cta, type NamedBarrierState, type Warp } from './machine.ts';
import type { Handler } from './program.ts';
import { ballot } from './warp-ops.ts';

/** Barriers of a CTA and of a cluster, fences, and what waits for other grids. */

function stateOf(cta: Cta, id: number): NamedBarrierState {
  const components = cta.cluster.components;
  return (cta.barriers[id] ??= {
    arrived: 0,
    expected: 0,
    phase: 0,
    meeting: new Meeting(components),
    leaving: new Meeting(components),
    votes: noVotes(),
    counted: noVotes(),
  });
}

function noVotes(): NamedBarrierState['votes'] {
  return { holds: 0, all: true };
}

/** Whether all lanes of the warp are here, as an aligned instruction wants; else a finding, and the grid ends. */
export function checkWhole(warp: Warp, node: Node): boolean {
  const missing = warp.live & ~warp.mask;
  if (missing === 0) return true;
  warp.report(
    'barrier-divergence',
    `${node.op} is executed by some lanes of a warp only, the others are on another way: call it where all of them are`,
    [
      warp.place(node.op, firstLane(warp.mask)),
      {
        what: 'a lane that is elsewhere',
        position: undefined,
        thread: warp.thread(firstLane(missing)),
        cta: warp.cta.id,
      },
    ],
  );
  warp.cta.cluster.machine.findings.stopped = true;
  return false;
}

/** Arrives; returns the phase that completes when all are there. */
function arrive(warp: Warp, node: Node): { state: NamedBarrierState; phase: number } | undefined {
  if (flagOf(node, 'aligned', true) && !checkWhole(warp, node)) return undefined;
  const { cta } = warp;
  const id = numberOf(node, 'id', 0);
  const expected = numberOf(node, 'count', 32 * cta.warps.length);
  const state = stateOf(cta, id);
  if (state.arrived > 0 && state.expected !== expected) {
    warp.report(
      'barrier-divergence',
      `barrier ${id} is used with ${expected} threads while others wait there for ${state.expected}`,
    );
  }
  state.expected = expected;
  warp.release(state.meeting, warp.mask);
  // Whole warps count, with lanes that have ended or never were.
  state.arrived += warp.mask === warp.live ? 32 : countLanes(warp.mask);
  const { phase } = state;
  if (state.arrived > expected) {
    warp.report('barrier-divergence', `more than the ${expected} threads that barrier ${id} counts arrived at it`);
  }
  if (state.arrived >= expected) {
    state.leaving = state.meeting;
    state.meeting = new Meeting(cta.cluster.components);
    state.arrived = 0;
    state.counted = state.votes;
    state.votes = noVotes();
    state.phase++;
  }
  return { state, phase };
}

function wait(warp: Warp, node: Node, state: NamedBarrierState, phase: number, resume: () => void): void {
  if (state.phase > phase) return resume();
  const id = numberOf(node, 'id', 0);
  warp.wait = {
    node,
    what: () => `barrier ${id}: ${state.arrived} of ${state.expected} threads are there`,
    ready: () => state.phase > phase,
    resume,
  };
}

const barrier: Handler = (node) => (warp) => {
  const arrival = arrive(warp, node);
  if (!arrival) return;
  const { state, phase } = arrival;
  wait(warp, node, state, phase, () => warp.acquire(state.leaving));
};

const barrierReduce: Handler = (node, program) => {
  const name = choiceOf(node, 'function', ['and', 'or', 'popc']);
  const { at } = program.registers.of(node.args[0]);
  const result = program.registers.of(node.results[0]);
  return (warp) => {
    const state = stateOf(warp.cta, numberOf(node, 'id', 0));
    const set = ballot(warp, at, warp.mask);
    state.votes.holds += countLanes(set);
    if (set !== warp.mask) state.votes.all = false;
    const arrival = arrive(warp, node);
    if (!arrival) return;
    wait(warp, node, state, arrival.phase, () => {
      warp.acquire(state.leaving);
      const { holds, all } = state.counted;
      const value = name === 'popc' ? holds : Number(name === 'and' ? all : holds > 0);
      for (let lane = 0; lane < 32; lane++) if ((warp.mask >>> lane) & 1) warp.n[result.at + lane] = value;
    });
  };
};

const clusterArrive: Handler = (node) => {
  const relaxed = choiceOf(node, 'order', ['release', 'relaxed'], 'release') === 'relaxed';
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    const { cluster } = warp.cta;
    if (warp.state.clusterPhase !== undefined) {
      warp.report('barrier-divergence', 'a warp arrives twice at the cluster barrier without waiting in between');
    }
    warp.state.clusterPhase = cluster.phase;
    if (!relaxed) warp.release(cluster.meeting, warp.mask);
    else if (warp.state.published) cluster.meeting.join(warp.state.published);
    cluster.machine.progress++;
    cluster.arrived += 32;
    if (cluster.arrived < 32 * cluster.ctas.reduce((sum, cta) => sum + cta.warps.length, 0)) return;
    cluster.arrived = 0;
    cluster.phase++;
    cluster.leaving = cluster.meeting;
    cluster.meeting = new Meeting(cluster.components);
  };
};

const clusterWait: Handler = (node) => (warp) => {
  if (!checkWhole(warp, node)) return;
  const { cluster } = warp.cta;
  const phase = warp.state.clusterPhase;
  if (phase === undefined) {
    warp.report('barrier-divergence', 'cluster_wait without a cluster_arrive before it');
    return;
  }
  warp.wait = {
    node,
    what: () => `the cluster: ${cluster.arrived} threads have arrived`,
    ready: () => cluster.phase > phase,
    resume: () => {
      warp.state.clusterPhase = undefined;
      warp.acquire(cluster.leaving);
    },
  };
};

/** Registers of a multiprocessor, and the most that a thread is launched with. */
const REGISTERS = 65536;
const THREAD_REGISTERS = 256;

/**
 * A CTA has the registers that it was launched with, as many for a thread as fit a multiprocessor: who wants more waits
 * until others have given theirs back.
 */
const setMaxRegisters: Handler = (node, program) => {
  const count = numberOf(node, 'count');
  const { threads, minBlocks = 1 } = program.kernel;
  const all = 32 * Math.ceil((threads[0] * threads[1] * threads[2]) / 32);
  const launched = Math.min(THREAD_REGISTERS, 8 * Math.floor(REGISTERS / (all * minBlocks) / 8));
  return (warp) => {
    if (!checkWhole(warp, node)) return;
    if (count % 8 !== 0 || count < 24 || count > 256) {
      warp.report('registers', `set_max_registers of ${count}: it is a multiple of 8 from 24 to 256`);
    }
    const { warps } = warp.cta;
    const others = (): number =>
      warps.reduce((sum, other) => sum + (other === warp ? 0 : 32 * (other.state.registers ?? launched)), 0);
    const take = (): void => {
      warp.state.registers = count;
      warp.state.registerNode = node;
      warp.cta.cluster.machine.progress++;
    };
    const fits = (): boolean => others() + 32 * count <= launched * all;
    if (fits()) return take();
    let taken = false;
    warp.wait = {
      node,
      what: () =>
        `${count} registers a thread: the CTA has ${launched * all}, and its other warps hold ${others()} of them`,
      ready: () => {
        if (!taken && fits()) {
          taken = true;
          take();
        }
        return taken;
      },
    };
  };
};

export const BARRIER_HANDLERS: Readonly<Record<string, Handler>> = {
  barrier,
  barrier_arrive: (node) => (warp) => {
    arrive(warp, node);
  },
  barrier_reduce: barrierReduce,
  cluster_arrive: clusterArrive,
  cluster_wait: clusterWait,
  set_max_registers: setMaxRegisters,
  // Makes relaxed accesses and arrivals around it release and acquire.
  fence: () => (warp) => warp.publish(),
  nanosleep: () => (warp) => {
    warp.sliced = true;
  },
  // The grids before have ended when a simulation begins.
  grid_dependency_wait: () => () => {},
  grid_launch_dependents: () => () => {},
};
