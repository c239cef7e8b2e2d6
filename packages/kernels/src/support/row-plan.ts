import type { TypeName } from '@rose/cute';
import type { DeviceFacts } from '../spec.ts';
import { bytesOf } from './storage.ts';

/**
 * How rows are spread over threads by the kernels that reduce along a row. `lanes` threads hold a row: thread l has the
 * vectors l, l + lanes, l + 2 lanes... of `vector` elements. A row's sum is taken in this order, and it depends on the
 * row's length and type alone: a vector's elements one after the other, a thread's vectors likewise, the threads of a
 * warp by butterflies of distance 16, 8, 4, 2, 1 (from lanes / 2 where a row has less than a warp), then the warps in
 * ascending order.
 */
export interface RowPlan {
  readonly columns: number;
  /** Elements of one access: as many as 16 bytes hold, or fewer where they do not divide the row. */
  readonly vector: number;
  readonly lanes: number;
  /** Vectors of a thread, the last perhaps beyond the row's end. */
  readonly turns: number;
  /** Whether every thread has all its vectors inside the row. */
  readonly full: boolean;
  /** Rows that a CTA has at one time. */
  readonly rows: number;
  /** Threads of a CTA. */
  readonly threads: number;
  /** CTAs for each multiprocessor that walk over the rows; 0: none walks. */
  readonly waves: number;
}

/** Threads that a row can have. */
export const LANES = [8, 16, 32, 64, 128, 256, 512, 1024] as const;
export type Lanes = (typeof LANES)[number];
/** Threads that a CTA can have; a row of more lanes has a CTA of its own. */
export const THREADS = [128, 256, 512, 1024] as const;
/** CTAs that walk over the rows, for each multiprocessor; 0: a CTA for every block of rows, and none walks. */
export const WAVES = [0, 1, 2, 3, 4, 6, 8, 12, 16] as const;

/** What a kernel over rows can be tuned by; see LANES, THREADS and WAVES. */
export interface RowTuning {
  readonly lanes: number;
  readonly threads: number;
  readonly waves: number;
}

export function rowPlan(columns: number, vector: number, { lanes, threads, waves }: RowTuning): RowPlan {
  const vectors = columns / vector;
  const rows = Math.max(1, Math.floor(threads / lanes));
  return {
    columns,
    vector,
    lanes,
    turns: Math.ceil(vectors / lanes),
    full: vectors % lanes === 0,
    rows,
    threads: rows * lanes,
    waves,
  };
}

/** Elements of one access to rows of these types: 16 bytes of the widest, or less where the row's length asks for it. */
export function vectorOf(columns: number, types: readonly TypeName[]): number {
  let vector = 16 / Math.max(...types.map((type) => bytesOf(type, 1)));
  while (columns % vector !== 0) vector /= 2;
  return vector;
}

/**
 * Threads for a row: one vector each up to 256 threads, which then take up to 8 vectors each; a longer row gets so many
 * that each has at most four. CTAs of 256 threads filled an H100's memory best at every length that they can hold.
 */
export function lanesOf(columns: number, vector: number): Lanes {
  const each = (lanes: number): number => (lanes < 256 ? 1 : lanes === 256 ? 8 : 4);
  return LANES.find((lanes) => lanes * each(lanes) * vector >= columns) ?? 1024;
}

/**
 * Whether registers are left for a row's weights while the row is reduced: threads with more than four vectors need
 * them for the row, and 1024 threads have 64 each.
 */
export function roomForWeights(columns: number, vector: number, lanes: number): boolean {
  return lanes < 1024 && columns <= 4 * lanes * vector;
}

/** Why rows of this length cannot be had; they must fit into the registers of their threads. */
export function columnsRefused(columns: number, vector: number, lanes: number): string | undefined {
  const each = Math.ceil(columns / vector / lanes) * vector;
  if (each <= MOST_VALUES) return undefined;
  return (
    `a row of ${columns} elements gives each of its ${lanes} threads ${each} values and ${MOST_VALUES} fit into registers: ` +
    'use more lanes, or rows whose length is a multiple of 8'
  );
}

/** Values that a thread can hold beside what it needs to compute. */
const MOST_VALUES = 64;

/** CTAs for so many rows. */
export function rowBlocks(rows: number, plan: RowPlan, device: DeviceFacts): [number, number, number] {
  const blocks = Math.ceil(rows / plan.rows);
  return [plan.waves === 0 ? blocks : Math.min(blocks, plan.waves * device.multiprocessors), 1, 1];
}
