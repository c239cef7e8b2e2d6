import type { TileFamily } from '../api.ts';
import type { Kernels } from '../kernels/instance.ts';

/** What one thread needs to execute commands over one arena. */
export interface ThreadArena {
  readonly kernels: Kernels;
  readonly family: TileFamily;
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  /** This thread's own part of the arena's scratch. */
  scratch: Scratch;
  readonly thread: number;
  readonly threads: number;
  /** The number of the next part of the command at hand: whoever is free takes it, so that no core waits for a slow one. */
  take(): number;
}

export interface Scratch {
  /** A few floats and one output tile that reaches over a matrix's edge. */
  readonly tile: number;
  /** One row of float32, as wide as the widest. */
  readonly row: number;
  /** Scores of a tile of queries: `scoreStride` bytes a row. */
  readonly scores: number;
  readonly scoreStride: number;
  /** Quantized rows of a linear command's input: one place for all threads. */
  readonly quantized: number;
  /** Bytes of each part, for one row of scores. */
  readonly reserved: Readonly<Record<'tile' | 'row' | 'scores' | 'quantized', number>>;
}

/** Before `Arena.reserve`: commands that need scratch are refused. */
export const NO_SCRATCH: Scratch = {
  tile: 0,
  row: 0,
  scores: 0,
  scoreStride: 0,
  quantized: 0,
  reserved: { tile: 0, row: 0, scores: 0, quantized: 0 },
};

/** Scores of a tile reach from a page's beginning to a page's end. */
export function scoreStride(context: number): number {
  return 64 * Math.ceil((4 * (context + 32)) / 64);
}

const floatWord = new Float32Array(1);
const floatBits = new Int32Array(floatWord.buffer);

/** A float32 argument's bits: kernels and command lists carry integers alone. */
export function bitsOf(value: number): number {
  floatWord[0] = value;
  return floatBits[0];
}

export function floatOf(bits: number): number {
  floatBits[0] = bits;
  return floatWord[0];
}

/** A thread's share of `count` items: [first, end), contiguous, in multiples of `unit`. */
export function shareOf(count: number, unit: number, { thread, threads }: ThreadArena): [first: number, end: number] {
  const units = Math.ceil(count / unit);
  const first = Math.floor((units * thread) / threads) * unit;
  const end = Math.min(Math.floor((units * (thread + 1)) / threads) * unit, count);
  return [first, end];
}

/** Parts for each thread, at most: the others wait for the last part of the slowest. */
const MOST_PARTS = 8;
/** Multiplications of a part, at least: tens of microseconds. So decoding takes each matrix in few parts. */
const LEAST_WORK = 1 << 21;

/** Into how many parts to cut `units` of `work` multiplications each. Part i begins at `partStart(i)`. */
export function partsOf(units: number, work: number, threads: number): number {
  if (threads === 1) return Math.min(units, 1);
  const rounds = Math.ceil((units * work) / (LEAST_WORK * threads));
  return Math.min(units, threads * Math.min(rounds, MOST_PARTS));
}

/** The first unit of a part. */
export function partStart(part: number, parts: number, units: number): number {
  return Math.floor((part * units) / parts);
}
