import type { GpuKernel } from './gpu.ts';

/** The name by which a kernel knows its number of rows. */
export type RowCount = 'rows' | 'tokens' | 'sequences';

/** CTAs of a kernel by its number of rows. The last answer is kept: all layers ask for the same in a step. */
export class RowGrid {
  readonly #kernel: GpuKernel;
  readonly #name: RowCount;
  #rows = -1;
  #grid: readonly [number, number, number] = [1, 1, 1];

  constructor(kernel: GpuKernel, name: RowCount) {
    this.#kernel = kernel;
    this.#name = name;
  }

  of(rows: number): readonly [number, number, number] {
    if (rows !== this.#rows) {
      this.#grid = this.#kernel.gridFor({ [this.#name]: rows });
      this.#rows = rows;
    }
    return this.#grid;
  }
}

/** Numbers of rows that kernels are loaded for; a step takes the first that is enough. */
export function rowBuckets(most: number): number[] {
  const buckets = [8, 16, 32, 64, 128, 256, 384, 512, 768];
  for (let rows = 1024; buckets.at(-1)! < most; rows *= 2) buckets.push(rows);
  const last = buckets.findIndex((rows) => rows >= most);
  return buckets.slice(0, last + 1);
}

/** The next of 1, 2, 3, 4, 6, 8, 12, 16...: sizes that graphs are captured for, at most half too large. */
export function graphSize(count: number): number {
  if (count <= 2) return count;
  const power = 2 ** Math.floor(Math.log2(count - 1));
  return count <= 1.5 * power ? 1.5 * power : 2 * power;
}

/** The next of 1 to 8, 10, 12, 14, 16, 20, 24 ...: finer sizes, at most a quarter too large. */
export function fineGraphSize(count: number): number {
  if (count <= 8) return count;
  const step = 2 ** (Math.floor(Math.log2(count - 1)) - 2);
  return step * Math.ceil(count / step);
}

/** Rows that attention's blocks of a sequence are launched for: a power of two, and whole tiles. */
export function sequenceRows(longest: number): number {
  return Math.max(64, 2 ** Math.ceil(Math.log2(longest)));
}
