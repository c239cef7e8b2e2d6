import { i32, i32x4, local, v128 } from 'wasmati';
import {
  held,
  increase,
  kernel,
  load,
  loadSplat,
  multiplyAdd,
  overElements,
  store,
  zero,
  advance,
  type Kernel,
} from '../wasm/emit.ts';
import type { TileFamily } from '../api.ts';

/** Columns of a panel. A panel holds its columns' weights k by k, so that a tile reads it from front to back. */
export const PANEL = 32;

export type PanelFormat = 'f32' | 'bf16';

/** Bytes of one k-step of a panel. */
export function stepBytes(format: PanelFormat): number {
  return format === 'f32' ? 4 * PANEL : 2 * PANEL;
}

/**
 * A bfloat16 panel packs columns c and c + 8 of each 16 into one 32-bit word, c in the lower half: a shift and a mask
 * then give vectors whose order is that of the columns, which the revectorizer needs.
 */
export function bf16Index(column: number): number {
  const inner = column & 15;
  return (column & ~15) + 2 * (inner & 7) + (inner >> 3);
}

/** What commands know of a tile: its kernel multiplies `rows` rows by one of the `parts` equal parts of a panel. */
export interface TileShape {
  readonly name: string;
  readonly rows: number;
  readonly parts: number;
}

/** 128-bit vectors of sums that a tile keeps in registers, beside the weights of a step and an element of the input. */
const MOST_SUMS = { plain: 8, wide: 24 } as const;

/**
 * Tiles of a family for 1, 2, 3... rows. There are 15 registers, of 128 (plain) or of 256 bits (wide). 6 rows by 16
 * columns, twelve chains of multiply-adds, keep both multipliers busy: 99 % of their limit, while eight chains (2 by 32,
 * 4 by 16) reach 82 % of it. One and two rows take a whole panel, for four chains at least.
 */
export function tileShapes(family: TileFamily, format: PanelFormat): readonly TileShape[] {
  const shapes: TileShape[] = [];
  for (let rows = 1; ; rows++) {
    const vectors = family === 'plain' ? 2 : rows <= 2 ? PANEL / 4 : PANEL / 8;
    if (rows * vectors > MOST_SUMS[family]) return shapes;
    shapes.push({ name: `linear_${format}_${rows}`, rows, parts: PANEL / 4 / vectors });
  }
}

/** The tiles' kernels, by name. */
export function tileKernels(family: TileFamily, format: PanelFormat): Record<string, Kernel> {
  return Object.fromEntries(
    tileShapes(family, format).map(({ name, rows, parts }) => [
      name,
      tile(format, rows, stepBytes(format) / 16 / parts),
    ]),
  );
}

/** Byte offsets, within a panel's row of output, of the vectors that load `i` of a part gives. */
function columnsOf(format: PanelFormat, i: number): number[] {
  if (format === 'f32') return [16 * i];
  const group = (i >> 1) * 64 + (i & 1) * 16;
  return [group, group + 32];
}

/** (a, lda, b, c, ldc, k): c[rows, part] = a[rows, k] b[k, part]; strides in bytes, k at least 1. */
function tile(format: PanelFormat, rows: number, loads: number): Kernel {
  const columns = loads * (format === 'f32' ? 1 : 2);
  return kernel(6, { ints: 2 + rows, vectors: rows * columns + columns + 4 }, (args, ints, vectors) => {
    const [a, lda, b, c, ldc, k] = args;
    const [unrolledEnd, end, ...rowAt] = ints;
    const sums = vectors.slice(0, rows * columns);
    const weights = vectors.slice(rows * columns, rows * columns + columns);
    const [x, w0, w1, high] = vectors.slice(rows * columns + columns);
    for (const sum of sums) zero(sum);
    if (format === 'bf16') held([0xffff0000], [high], lda);
    rowAt.forEach((at, m) => {
      local.get(m === 0 ? a : rowAt[m - 1]);
      if (m > 0) {
        local.get(lda);
        i32.add();
      }
      local.set(at);
    });
    overElements(rowAt[0], k, [unrolledEnd, end], (turns) => {
      for (let turn = 0; turn < turns; turn++) {
        loadWeights(turn * stepBytes(format));
        for (let m = 0; m < rows; m++) {
          loadSplat(rowAt[m], 4 * turn);
          local.set(x);
          for (let j = 0; j < columns; j++) multiplyAdd(x, weights[j], sums[m * columns + j]);
        }
      }
      for (let m = 1; m < rows; m++) increase(rowAt[m], 4 * turns);
      increase(b, turns * stepBytes(format));
    });

    function loadWeights(offset: number): void {
      if (format === 'f32') {
        for (let i = 0; i < loads; i++) {
          load(b, offset + 16 * i);
          local.set(weights[i]);
        }
        return;
      }
      // Pairs, in the order that makes both halves of each 256-bit operation neighbours.
      for (let i = 0; i < loads; i += 2) {
        const pair = loads === 1 ? [w0] : [w0, w1];
        pair.forEach((w, j) => {
          load(b, offset + 16 * (i + j));
          local.set(w);
        });
        pair.forEach((w, j) => {
          local.get(w);
          i32.const(16);
          i32x4.shl();
          local.set(weights[2 * i + j]);
        });
        pair.forEach((w, j) => {
          local.get(w);
          local.get(high);
          v128.and();
          local.set(weights[2 * i + pair.length + j]);
        });
      }
    }

    const offsets = storeOffsets(format, loads);
    for (let m = 0; m < rows; m++) {
      for (let j = 0; j < columns; j++) store(c, offsets[j], sums[m * columns + j]);
      advance(c, ldc);
    }
  });
}

/** Where the tile's accumulators belong, in their own order. */
function storeOffsets(format: PanelFormat, loads: number): number[] {
  if (format === 'f32') return Array.from({ length: loads }, (_, i) => 16 * i);
  if (loads === 1) return columnsOf(format, 0);
  const offsets: number[] = [];
  for (let i = 0; i < loads; i += 2) {
    const [low0, high0] = columnsOf(format, i);
    const [low1, high1] = columnsOf(format, i + 1);
    offsets.push(low0, low1, high0, high1);
  }
  return offsets;
}

/** Byte offset of part `p`'s first output within a panel's row. */
export function partOffset(format: PanelFormat, parts: number, p: number): number {
  if (parts === 1) return 0;
  // A 16-byte load of bfloat16 words gives columns 4 i.. and 8 + 4 i.. of its 16.
  if (format === 'bf16' && parts === 4) return (p >> 1) * 64 + (p & 1) * 16;
  return ((4 * PANEL) / parts) * p;
}
