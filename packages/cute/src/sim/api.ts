import type { Node, Position } from '../ir/ir.ts';
import type { TensorMapDescription } from '../types/tensor-map.ts';

/** What goes into the simulator and what comes out. */

/** A tensor: its bytes, changed in place. 16-bit floats are a Uint16Array of their bits, 8-bit ones a Uint8Array. */
export type SimulatorTensor = ArrayBufferView;

/** A tensor map: the description and the tensor that it describes (the same object as a tensor argument, if it is one). */
export interface SimulatorTensorMap {
  readonly map: TensorMapDescription;
  readonly tensor: SimulatorTensor;
  /** Byte of the tensor where element 0 lies; default 0. */
  readonly offset?: number;
}

export type SimulatorArgument = number | bigint | boolean | SimulatorTensor | SimulatorTensorMap;

export type FindingKind =
  | 'out-of-bounds'
  | 'misaligned'
  | 'read-only'
  | 'division'
  | 'uninitialised'
  | 'race'
  | 'proxy-fence'
  | 'async-pending'
  | 'async-not-drained'
  | 'barrier-divergence'
  | 'divergence'
  | 'deadlock'
  | 'mbarrier'
  | 'wgmma'
  | 'descriptor'
  | 'tensor-map'
  | 'registers'
  | 'tensor-memory'
  | 'assert'
  | 'trap'
  | 'infinite-loop'
  | 'cluster'
  | 'limit';

/** One party of a finding: what a thread did, where. */
export interface FindingPlace {
  /** E.g. `write of 4 bytes at shared "part" + 16`. */
  readonly what: string;
  readonly position: Position | undefined;
  /** Index of the thread in its CTA and of the CTA in the grid; absent where nobody is meant in particular. */
  readonly thread?: readonly [number, number, number];
  readonly cta?: readonly [number, number, number];
}

/** Something that is wrong with the kernel. The same at the same lines is reported once, and counted. */
export interface Finding {
  readonly kind: FindingKind;
  /** What is wrong and what to do, with the lines of all parties. */
  readonly message: string;
  readonly places: readonly FindingPlace[];
  /** How often it was seen. */
  count: number;
}

/** Who runs when. Every schedule that ends is one that hardware could take. */
export type Schedule =
  /** Warps run until they wait, in order; copies end soon. */
  | 'round-robin'
  /** Warps change after a random number of steps, copies end at random times; `seed` decides. */
  | 'random'
  /** As round-robin, but an asynchronous copy ends only when nobody can go on without it. */
  | 'late';

/** What a traced thread did. */
export interface TraceEvent {
  readonly node: Node;
  /** Results, or for `set` the value; booleans of predicates, bigints of 64-bit integers, bits of packed types. */
  readonly values: readonly (number | bigint | boolean)[];
}

export interface SimulatorOptions {
  readonly schedule?: Schedule;
  /** For random schedules; default 1. */
  readonly seed?: number;
  /** Checks to leave out; bounds are always checked. `verify`: what a compiler refuses is refused here, before it runs. */
  readonly checks?: { readonly races?: boolean; readonly uninitialised?: boolean; readonly verify?: boolean };
  /** Measurements that take time: conflicts of shared memory's banks, and sectors of global accesses. */
  readonly report?: { readonly banks?: boolean; readonly coalescing?: boolean };
  readonly limits?: {
    /** Steps of a warp before it is called an infinite loop. Default 20 million. */
    readonly steps?: number;
    /** Clusters (or CTAs) that run side by side where they wait for each other. Default 132. */
    readonly resident?: number;
    /** Findings of different places that are kept. Default 100. */
    readonly findings?: number;
  };
  /** Calls back for every node that a chosen thread executes. */
  readonly trace?: {
    readonly cta: readonly [number, number, number];
    readonly thread: readonly [number, number, number];
    readonly step: (event: TraceEvent) => void;
  };
  /** Value of the special register `smid` and of clocks is synthetic; the first clock. Default 0. */
  readonly clock?: number;
}

export interface Launch {
  readonly grid: readonly [number, number, number];
  /** By the names of the kernel's parameters. */
  readonly args: Readonly<Record<string, SimulatorArgument>>;
  readonly options?: SimulatorOptions;
}

/** Accesses of one line of source, for reports on request. */
export interface LineReport {
  readonly position: Position;
  readonly op: string;
  /** Instructions of warps that were executed. */
  instructions: number;
  /**
   * Shared memory: passes over the 32 banks that they took. Global memory: 32-byte sectors that they touched.
   */
  actual: number;
  /** The fewest that would have moved the same bytes. */
  ideal: number;
}

export interface SimulatorResult {
  readonly findings: readonly Finding[];
  /** No findings. */
  readonly ok: boolean;
  /** Lines that `print` wrote, in the order of execution. */
  readonly printed: readonly string[];
  readonly stats: {
    readonly ctas: number;
    /** Steps of warps; a step is a run of register operations, an access, a synchronisation or a jump. */
    readonly steps: number;
    /** By line, the worst first; filled where `report` asks for it. */
    readonly banks: readonly LineReport[];
    readonly coalescing: readonly LineReport[];
  };
}
