import type { KernelIR, Node } from '../ir/ir.ts';
import type { FindingKind, FindingPlace, LineReport, SimulatorOptions } from './api.ts';
import { Meeting } from './clocks.ts';
import type { Findings } from './findings.ts';
import { MemoryRegion, SHARED_BASE } from './memory.ts';
import type { Program } from './program.ts';
import { Shadow } from './shadow.ts';
import type { TensorMemory } from './tensor-memory.ts';
import type { TensorMapState } from './tensor-maps.ts';
import { newWarpState, type WarpState } from './warp-state.ts';

/** The state of a simulation: the machine, clusters, CTAs and warps. */

export type Triple = readonly [number, number, number];

/** Why a warp does not run, and when it goes on. */
export interface Wait {
  readonly node: Node;
  /** For a report: what is missing. */
  readonly what: () => string;
  readonly ready: () => boolean;
  /** Runs when the warp goes on. */
  readonly resume?: () => void;
  /** The instruction may also give up: it goes on when nothing else can. */
  readonly giveUp?: () => void;
}

/** An asynchronous operation that has started. */
export interface AsyncOperation {
  readonly node: Node;
  readonly warp: Warp;
  readonly lane: number;
  /** Not before this holds (operations of one thread may depend on each other). */
  readonly ready?: () => boolean;
  /** Moves the data and tells whoever waits. */
  readonly complete: () => void;
  /** Runs when the thread that started it has waited for it. */
  readonly visible?: () => void;
  /** It writes shared memory, which must live until then. */
  readonly intoShared: boolean;
  done: boolean;
}

export class Machine {
  readonly kernel: KernelIR;
  readonly program: Program;
  readonly findings: Findings;
  readonly options: SimulatorOptions;
  readonly grid: Triple;
  readonly globals: MemoryRegion[] = [];
  readonly maps: (TensorMapState | undefined)[] = [];
  /** The bytes of tensor maps that are parameters. */
  mapMemory: MemoryRegion | undefined;
  /** Tensor maps in global memory that were published: by their address the record of the last time. */
  readonly published: Map<number, number> = new Map();
  readonly parameters: (number | bigint)[] = [];
  readonly printed: string[] = [];
  /** Of warps that have ended. */
  readonly registerFiles: RegisterFile[] = [];
  readonly shadow: Shadow = new Shadow();
  readonly checkRaces: boolean;
  readonly checkUninitialised: boolean;
  readonly banks: Map<string, LineReport> = new Map();
  readonly coalescing: Map<string, LineReport> = new Map();
  readonly handovers: Map<MemoryRegion, Map<number, Handover>> = new Map();
  /** First CTAs of clusters that have not started, in order. */
  waiting: Triple[] = [];
  steps: number = 0;
  /** Increases whenever somebody does what another may wait for. */
  progress: number = 0;

  constructor(kernel: KernelIR, program: Program, findings: Findings, grid: Triple, options: SimulatorOptions) {
    this.kernel = kernel;
    this.program = program;
    this.findings = findings;
    this.grid = grid;
    this.options = options;
    this.checkRaces = options.checks?.races ?? true;
    this.checkUninitialised = options.checks?.uninitialised ?? true;
  }
}

/** What was released at a place of memory, by the cluster that did. */
export type Handover = Map<Cluster, Meeting>;

/** CTAs that run together and see each other's shared memory; a CTA alone where the kernel has no clusters. */
export class Cluster {
  readonly machine: Machine;
  readonly ctas: Cta[] = [];
  readonly operations: AsyncOperation[] = [];
  readonly components: number;
  /** Threads that arrived at the cluster's barrier, and its phase. */
  arrived: number = 0;
  phase: number = 0;
  meeting: Meeting;
  leaving: Meeting;
  /** Rounds in which a warp looked at memory that others write. */
  polls: number = 0;
  /** Progress when nobody could run last, and how often that did not change. */
  lastProgress: number = -1;
  fruitless: number = 0;
  /** Who was told that there is no more work to take over. */
  refused: { node: Node; warp: Warp } | undefined;
  private readonly handovers = new Map<MemoryRegion, Map<number, Handover>>();

  constructor(machine: Machine, shape: Triple, first: Triple) {
    this.machine = machine;
    const size = shape[0] * shape[1] * shape[2];
    const threads = machine.kernel.threads;
    const warps = Math.ceil((threads[0] * threads[1] * threads[2]) / 32);
    const perCta = warps + (machine.program.usesTensorMemory ? 2 : 1);
    this.components = size * perCta;
    this.meeting = new Meeting(this.components);
    this.leaving = this.meeting;
    for (let rank = 0; rank < size; rank++) {
      const inCluster: Triple = [
        rank % shape[0],
        Math.floor(rank / shape[0]) % shape[1],
        Math.floor(rank / (shape[0] * shape[1])),
      ];
      this.ctas.push(new Cta(this, rank, inCluster, shape, first, warps, rank * perCta));
    }
  }

  /** Time of this cluster, in steps. */
  now(): number {
    return this.machine.steps + (this.machine.options.clock ?? 0);
  }

  /** What was released at a place, if anything was. All clusters share what lies in global memory. */
  handoverAt(region: MemoryRegion, offset: number): Handover | undefined {
    return this.placesOf(region).get(region)?.get(offset);
  }

  /** The same, to be added to. */
  openHandover(region: MemoryRegion, offset: number): Handover {
    const places = this.placesOf(region);
    let known = places.get(region);
    if (!known) places.set(region, (known = new Map()));
    let handover = known.get(offset);
    if (!handover) known.set(offset, (handover = new Map()));
    return handover;
  }

  private placesOf(region: MemoryRegion): Map<MemoryRegion, Map<number, Handover>> {
    return region.space === 'global' ? this.machine.handovers : this.handovers;
  }

  /** All of its threads. */
  get threads(): number {
    return this.ctas.reduce((sum, cta) => sum + cta.threadCount, 0);
  }
}

/** A named barrier of a CTA. */
export interface NamedBarrierState {
  arrived: number;
  expected: number;
  phase: number;
  meeting: Meeting;
  leaving: Meeting;
  /** Threads whose predicate holds, and whether all do: of the phase that runs, and of the one that completed. */
  votes: { holds: number; all: boolean };
  counted: { holds: number; all: boolean };
}

export class Cta {
  readonly cluster: Cluster;
  readonly rank: number;
  readonly inCluster: Triple;
  readonly clusterShape: Triple;
  readonly id: Triple;
  readonly grid: Triple;
  readonly threads: Triple;
  readonly threadCount: number;
  readonly multiprocessor: number;
  readonly warps: Warp[] = [];
  readonly shared: MemoryRegion;
  readonly barriers: (NamedBarrierState | undefined)[] = [];
  /** mbarriers by their offset in shared memory. */
  readonly mbarriers: Map<number, MBarrierState> = new Map();
  /** The component of copies into this CTA's memory, and how many there were. */
  readonly engine: number;
  engineCounter: number = 0;
  /** The component of products that this CTA's threads start, and how many groups of them have ended. */
  readonly tensorCores: number;
  tensorCounter: number = 0;
  /** Made when the kernel allocates some. */
  tensorMemory: TensorMemory | undefined;

  constructor(
    cluster: Cluster,
    rank: number,
    inCluster: Triple,
    shape: Triple,
    first: Triple,
    warps: number,
    component: number,
  ) {
    const { machine } = cluster;
    this.cluster = cluster;
    this.rank = rank;
    this.inCluster = inCluster;
    this.clusterShape = shape;
    this.id = [first[0] + inCluster[0], first[1] + inCluster[1], first[2] + inCluster[2]];
    this.grid = machine.grid;
    this.threads = machine.kernel.threads;
    this.threadCount = this.threads[0] * this.threads[1] * this.threads[2];
    this.multiprocessor = (this.id[0] + this.grid[0] * (this.id[1] + this.grid[1] * this.id[2])) % 132;
    const { bytes, parts } = machine.program.shared;
    this.shared = new MemoryRegion('shared', 'shared', SHARED_BASE, bytes, 'readwrite', parts);
    if (machine.checkRaces || machine.checkUninitialised) this.shared.watch();
    this.engine = component + warps;
    this.tensorCores = component + warps + 1;
    for (let i = 0; i < warps; i++) this.warps.push(new Warp(this, i, component + i));
  }

  /** Whether all threads have ended. */
  get ended(): boolean {
    return this.warps.every((warp) => warp.done);
  }
}

export interface MBarrierState {
  readonly offset: number;
  readonly count: number;
  /** Arrivals and bytes that the phase still waits for. */
  pending: number;
  bytes: number;
  phase: number;
  meeting: Meeting;
  readonly init: { node: Node; warp: Warp; lane: number };
  /** What happened before the phases that completed. */
  completed: Meeting;
}

export class Warp {
  readonly cta: Cta;
  readonly index: number;
  readonly component: number;
  readonly f: Float32Array;
  readonly n: Int32Array;
  readonly u: Uint32Array;
  readonly d: Float64Array;
  readonly q: BigInt64Array;
  readonly Q: BigUint64Array;
  readonly file: RegisterFile;
  readonly tidX: Int32Array = new Int32Array(32);
  readonly tidY: Int32Array = new Int32Array(32);
  readonly tidZ: Int32Array = new Int32Array(32);
  /** Lanes that exist, run now, have ended, and are elsewhere (ended, or behind a jump that others have not taken). */
  readonly valid: number;
  mask: number;
  exited: number = 0;
  away: number = 0;
  pc: number = 0;
  /** By the number of an `if`, `loop` or `block`: lanes that entered, went the other way or left, and continue. */
  readonly entered: Int32Array;
  readonly left: Int32Array;
  readonly again: Int32Array;
  /** Lanes in which a slot was set. */
  readonly assigned: Int32Array;
  wait: Wait | undefined;
  done: boolean = false;
  steps: number = 0;
  sliced: boolean = false;
  /** Races: how often this warp synchronised, and what it knows. */
  counter: number = 1;
  readonly meeting: Meeting;
  readonly state: WarpState;

  constructor(cta: Cta, index: number, component: number) {
    const { program } = cta.cluster.machine;
    this.cta = cta;
    this.index = index;
    this.component = component;
    const file = cta.cluster.machine.registerFiles.pop() ?? newRegisterFile(program);
    this.file = file;
    ({ f: this.f, n: this.n, u: this.u, d: this.d, q: this.q, Q: this.Q } = file);
    const first = index * 32;
    const lanes = Math.min(32, cta.threadCount - first);
    const [x, y] = cta.threads;
    for (let i = 0; i < 32; i++) {
      const thread = first + i;
      this.tidX[i] = thread % x;
      this.tidY[i] = Math.floor(thread / x) % y;
      this.tidZ[i] = Math.floor(thread / (x * y));
    }
    this.valid = lanes === 32 ? -1 : (1 << lanes) - 1;
    this.mask = this.valid;
    this.entered = new Int32Array(program.frames);
    this.left = new Int32Array(program.frames);
    this.again = new Int32Array(program.frames);
    this.assigned = new Int32Array(cta.cluster.machine.kernel.slotCount);
    this.meeting = new Meeting(cta.cluster.components);
    this.state = newWarpState();
  }

  /** Lanes that have not ended. */
  get live(): number {
    return this.valid & ~this.exited;
  }

  /** The node that this warp executes. */
  get node(): Node | undefined {
    return this.cta.cluster.machine.program.nodes[this.pc - 1];
  }

  thread(lane: number): Triple {
    return [this.tidX[lane], this.tidY[lane], this.tidZ[lane]];
  }

  /** A party of a finding at the node that is executed. */
  place(what: string, lane: number): FindingPlace {
    return { what, position: this.node?.position, thread: this.thread(lane), cta: this.cta.id };
  }

  placeOf(node: Node, what: string, lane: number): FindingPlace {
    return { what, position: node.position, thread: this.thread(lane), cta: this.cta.id };
  }

  report(kind: FindingKind, message: string, places?: readonly FindingPlace[], key?: string): void {
    const where = places ?? [this.place(this.node?.op ?? 'the kernel', firstLane(this.mask))];
    this.cta.cluster.machine.findings.add(kind, message, where, key);
  }

  /** All lanes of the warp know what the others did so far. */
  synchronise(): void {
    this.meeting.before.add(this.component, -1, this.counter);
    this.counter++;
  }

  /** Hands over what these lanes did and know. */
  release(to: Meeting, mask: number): void {
    to.join(this.meeting);
    to.before.add(this.component, mask === this.live ? -1 : mask, this.counter);
    this.counter++;
    this.cta.cluster.machine.progress++;
  }

  acquire(from: Meeting): void {
    this.meeting.join(from);
  }

  /** Takes over what all clusters released at a place. */
  acquireFrom(handover: Handover): void {
    const { cluster } = this.cta;
    for (const [by, meeting] of handover) {
      if (by === cluster) this.meeting.join(meeting);
      else this.meeting.learn(by, meeting, cluster);
    }
  }

  /**
   * A fence: what relaxed reads before it saw released is acquired, and what came before it is released by relaxed writes
   * behind it.
   */
  publish(): void {
    for (const handover of this.state.seen) this.acquireFrom(handover);
    this.state.seen.clear();
    const meeting = new Meeting(this.cta.cluster.components);
    this.release(meeting, this.mask);
    this.state.published = meeting;
  }

  /** What these lanes know to have happened may be seen by the async proxy. */
  fence(mask: number): void {
    this.meeting.fenced.join(this.meeting.before);
    this.meeting.fenced.add(this.component, mask === this.live ? -1 : mask, this.counter);
    this.counter++;
  }
}

/** A warp's registers, seen in every way. Files of warps that have ended serve others: constants stay in them. */
export interface RegisterFile {
  readonly f: Float32Array;
  readonly n: Int32Array;
  readonly u: Uint32Array;
  readonly d: Float64Array;
  readonly q: BigInt64Array;
  readonly Q: BigUint64Array;
}

function newRegisterFile(program: Program): RegisterFile {
  const words = new ArrayBuffer(program.words * 128);
  const longs = new ArrayBuffer(program.longs * 256);
  const file = {
    f: new Float32Array(words),
    n: new Int32Array(words),
    u: new Uint32Array(words),
    d: new Float64Array(longs),
    q: new BigInt64Array(longs),
    Q: new BigUint64Array(longs),
  };
  program.putConstants(file);
  return file;
}

/** The lowest lane of a mask. */
export function firstLane(mask: number): number {
  return mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
}

export function countLanes(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}
