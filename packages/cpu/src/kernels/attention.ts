import { $, f32, f32x4, i32, i32x4, local, loop, br_if, select, v128 } from 'wasmati';
import type { CacheDtype, TileFamily } from '../api.ts';
import {
  advance,
  increase,
  kernel,
  load,
  elementAddress,
  held,
  loadSplat,
  multiplyAdd,
  overElements,
  store,
  storeElements,
  whileBelow,
  zero,
  type Int,
  type Kernel,
  type Vec,
} from '../wasm/emit.ts';

/** Tokens in a page, and columns of a tile: the width of a K panel and of a group of V's columns. */
const GROUP = 16;

/** Rows that a tile of queries can have. */
export const QUERY_ROWS: readonly number[] = [4, 2, 1];

/**
 * Kernels of attention over pages. `scores` and `mix` walk a sequence's page table themselves, so that a row of any
 * length is one call. Every score is one chain of multiply-adds over the head's elements, and every output element one
 * chain over the positions in order, whatever the tile.
 */
export function attentionKernels(family: TileFamily, dtype: CacheDtype): Record<string, Kernel> {
  const kernels: Record<string, Kernel> = {};
  for (const rows of QUERY_ROWS) {
    kernels[`scores_${rows}`] = scores(family, dtype, rows);
    kernels[`mix_${rows}`] = mix(family, dtype, rows, GROUP);
    if (dtype === 'f32') {
      // Columns behind the last whole group of 16.
      kernels[`mix4_${rows}`] = mix('plain', dtype, rows, 4);
      kernels[`mix1_${rows}`] = mix('plain', dtype, rows, 1);
    }
  }
  return kernels;
}

/** Parts into which a family cuts the 16 columns of a group, so that a tile stays in registers. */
function partsOf(family: TileFamily, rows: number): number {
  return family === 'wide' || rows <= 2 ? 1 : 2;
}

/** Load 16 (or the part's 8) columns at `b + offset` into `weights`, as float32 in the columns' order; see `bf16Index`. */
function loadColumns(b: Int, offset: number, dtype: CacheDtype, part: number, parts: number, v: ColumnVectors): void {
  const { weights, words: w, high } = v;
  if (dtype === 'f32') {
    const count = 4 / parts;
    for (let i = 0; i < count; i++) {
      load(b, offset + 16 * (part * count + i));
      local.set(weights[i]);
    }
    return;
  }
  const loads = parts === 1 ? [0, 1] : [part];
  loads.forEach((i, j) => {
    load(b, offset + 16 * i);
    local.set(w[j]);
  });
  loads.forEach((_, j) => {
    local.get(w[j]);
    i32.const(16);
    i32x4.shl();
    local.set(weights[j]);
  });
  loads.forEach((_, j) => {
    local.get(w[j]);
    local.get(high);
    v128.and();
    local.set(weights[loads.length + j]);
  });
}

interface ColumnVectors {
  readonly weights: Vec[];
  /** Two, for bfloat16 words as loaded. */
  readonly words: Vec[];
  /** A mask of the upper half of each word. */
  readonly high: Vec;
}

/** Byte offsets of the columns that `loadColumns` gives, vector by vector. */
function columnOffsets(dtype: CacheDtype, part: number, parts: number): number[] {
  if (parts === 1) return [0, 16, 32, 48];
  return dtype === 'f32' ? [32 * part, 32 * part + 16] : [16 * part, 16 * part + 32];
}

/**
 * (q, ldq, table, pages, base, pageStride, headDim, out, ldo, scale bits): out[row, 16 p ..] = scale * (q[row] K_p) for
 * each page p of the table, `base` being the address of page 0's K of this head. Strides in bytes.
 */
function scores(family: TileFamily, dtype: CacheDtype, rows: number): Kernel {
  const parts = partsOf(family, rows);
  const columns = 4 / parts;
  const step = dtype === 'f32' ? 4 * GROUP : 2 * GROUP;
  return kernel(10, { ints: 5 + rows, vectors: rows * columns + columns + 5 }, (args, ints, vectors) => {
    const [q, ldq, table, pages, base, pageStride, headDim, out, ldo, scaleBits] = args;
    const [lastPage, unrolledEnd, end, b, at, ...rowAt] = ints;
    const sums = vectors.slice(0, rows * columns);
    const weights = vectors.slice(rows * columns, rows * columns + columns);
    const [x, scale, high, ...w] = vectors.slice(rows * columns + columns);
    if (dtype === 'bf16') held([0xffff0000], [high], ldq);
    local.get(scaleBits);
    f32.reinterpret_i32();
    f32x4.splat();
    local.set(scale);
    elementAddress(table, pages, lastPage);
    whileBelow(table, lastPage, 4, () => {
      for (let part = 0; part < parts; part++) {
        for (const sum of sums) zero(sum);
        pageAddress(table, pageStride, base, b);
        rowPointers(q, ldq, rowAt);
        overElements(rowAt[0], headDim, [unrolledEnd, end], (turns) => {
          for (let u = 0; u < turns; u++) {
            loadColumns(b, u * step, dtype, part, parts, { weights, words: w, high });
            accumulate(rowAt, 4 * u, x, weights, sums);
          }
          for (let m = 1; m < rows; m++) increase(rowAt[m], 4 * turns);
          increase(b, turns * step);
        });
        for (const sum of sums) {
          local.get(sum);
          local.get(scale);
          f32x4.mul();
          local.set(sum);
        }
        local.get(out);
        local.set(at);
        const offsets = columnOffsets(dtype, part, parts);
        for (let m = 0; m < rows; m++) {
          offsets.forEach((offset, j) => store(at, offset, sums[m * columns + j]));
          advance(at, ldo);
        }
      }
      increase(out, 4 * GROUP);
    });
  });
}

/**
 * (p, ldp, table, first, count, base, pageStride, step, factors, out, ldo): out[row, columns] = factors[row] * the sum
 * over `count` positions of p[row, i] V[i, columns]. Position 0 is number `first` of the table's first page; `base` is
 * the address of these columns in page 0's V of this head; `step` the bytes from one position to the next; `factors`
 * one float32 a row. count is at least 1.
 */
function mix(family: TileFamily, dtype: CacheDtype, rows: number, width: 16 | 4 | 1): Kernel {
  const parts = width === GROUP ? partsOf(family, rows) : 1;
  const columns = width === GROUP ? 4 / parts : 1;
  return kernel(11, { ints: 8 + rows, vectors: rows * columns + columns + 4 }, (args, ints, vectors) => {
    const [p, ldp, table, first, count, base, pageStride, step, factors, out, ldo] = args;
    const [b, unrolledEnd, end, left, inPage, page, at, take, ...rowAt] = ints;
    const sums = vectors.slice(0, rows * columns);
    const weights = vectors.slice(rows * columns, rows * columns + columns);
    const [x, high, ...w] = vectors.slice(rows * columns + columns);
    if (dtype === 'bf16') held([0xffff0000], [high], ldp);
    for (let part = 0; part < parts; part++) {
      for (const sum of sums) zero(sum);
      rowPointers(p, ldp, rowAt);
      local.get(count);
      local.set(left);
      local.get(first);
      local.set(inPage);
      local.get(table);
      local.set(page);
      loop({}, () => {
        // take = min(16 - inPage, left)
        i32.const(GROUP);
        local.get(inPage);
        i32.sub();
        local.tee(take);
        local.get(left);
        local.get(take);
        local.get(left);
        i32.lt_u();
        select();
        local.set(take);
        pageAddress(page, pageStride, base, b);
        local.get(b);
        local.get(inPage);
        local.get(step);
        i32.mul();
        i32.add();
        local.set(b);
        overElements(rowAt[0], take, [unrolledEnd, end], (turns) => {
          for (let u = 0; u < turns; u++) {
            if (width === GROUP) loadColumns(b, 0, dtype, part, parts, { weights, words: w, high });
            else {
              if (width === 4) load(b, 0);
              else loadSplat(b, 0);
              local.set(weights[0]);
            }
            accumulate(rowAt, 4 * u, x, weights, sums);
            advance(b, step);
          }
          for (let m = 1; m < rows; m++) increase(rowAt[m], 4 * turns);
        });
        increase(page, 4);
        i32.const(0);
        local.set(inPage);
        local.get(left);
        local.get(take);
        i32.sub();
        local.tee(left);
        br_if(0);
      });
      for (let m = 0; m < rows; m++) {
        loadSplat(factors, 4 * m);
        local.set(x);
        for (let j = 0; j < columns; j++) {
          local.get(sums[m * columns + j]);
          local.get(x);
          f32x4.mul();
          local.set(sums[m * columns + j]);
        }
      }
      local.get(out);
      local.set(at);
      const offsets = width === GROUP ? columnOffsets(dtype, part, parts) : [0];
      for (let m = 0; m < rows; m++) {
        offsets.forEach((offset, j) => storeElements(at, offset, sums[m * columns + j], width === 1));
        advance(at, ldo);
      }
    }
  });
}

/** Each row's element at `offset`, times the step's columns, onto its sums. */
function accumulate(rowAt: Int[], offset: number, x: Vec, weights: Vec[], sums: Vec[]): void {
  rowAt.forEach((at, m) => {
    loadSplat(at, offset);
    local.set(x);
    weights.forEach((weight, j) => multiplyAdd(x, weight, sums[m * weights.length + j]));
  });
}

/** rowAt[m] = a + m * stride */
function rowPointers(a: Int, stride: Int, rowAt: Int[]): void {
  rowAt.forEach((at, m) => {
    local.get(m === 0 ? a : rowAt[m - 1]);
    if (m > 0) {
      local.get(stride);
      i32.add();
    }
    local.set(at);
  });
}

/** b = base + pageStride * (the page number at `table`) */
function pageAddress(table: Int, pageStride: Int, base: Int, b: Int): void {
  local.get(table);
  i32.load({ offset: 0 }, $ as never);
  local.get(pageStride);
  i32.mul();
  local.get(base);
  i32.add();
  local.set(b);
}
