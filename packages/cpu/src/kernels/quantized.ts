import { $, f32x4, i16x8, i32, i32x4, local, v128 } from 'wasmati';
import type { TileFamily } from '../api.ts';
import { advance, increase, kernel, load, loadSplat, multiplyAdd, store, untilEqual, words } from '../wasm/emit.ts';
import type { Int, Kernel, Vec } from '../wasm/emit.ts';
import { PANEL } from './linear.ts';

/*
 * Products with int8 and int4 weights: within a group of 32 inputs the sums are integers and exact; each group's sum,
 * times both scales, is added to the output in float32, group after group. Both families and all tiles add in that
 * order, so they agree in every bit.
 */

export type QuantizedFormat = 'int8' | 'int4';

/** Inputs that share one scale. */
export const GROUP = 32;

/**
 * A panel is a row of blocks, one for each group of inputs: 32 columns of weights, then their float32 scales.
 * int8: for each two inputs, 32 pairs. int4: for each eight inputs, 32 words of eight nibbles w + 8, the lower nibbles of
 * the four bytes being the first four inputs.
 */
export function weightBytes(format: QuantizedFormat): number {
  return (GROUP * PANEL) / (format === 'int8' ? 1 : 2);
}

export function blockBytes(format: QuantizedFormat): number {
  return weightBytes(format) + 4 * PANEL;
}

/** Bytes between a column's words (int4) or pairs (int8) in a block. */
export function weightStride(format: QuantizedFormat): number {
  return format === 'int8' ? 2 * PANEL : 4 * PANEL;
}

/**
 * A quantized row of inputs, for each group: int8 weights meet 32 int16 and a float32 scale, int4 weights 32 int8, a
 * word with -4 times their sum in both halves (the nibbles' offset of 8, in two parts), and a scale.
 */
export function inputBytes(format: QuantizedFormat): number {
  return format === 'int8' ? 2 * GROUP + 4 : GROUP + 8;
}

/** Largest magnitude of a quantized input. int8: 32 * 127 * 32767 < 2^31. int4: 16 * 127 * 15 < 2^15. */
export const LARGEST_INPUT: Readonly<Record<QuantizedFormat, number>> = { int8: 32767, int4: 127 };

export interface QuantizedTile {
  readonly name: string;
  readonly rows: number;
  /** A multiple of 4 that divides PANEL. */
  readonly columns: number;
}

/** Tiles of a family, from tall to low. Integer sums take the registers; the outputs stay in memory between groups. */
export const QUANTIZED_TILES: Readonly<Record<TileFamily, readonly QuantizedTile[]>> = {
  plain: [tileOf(4, 8), tileOf(2, 16), tileOf(1, 32)],
  wide: [tileOf(4, 16), tileOf(2, 32), tileOf(1, 32)],
};

function tileOf(rows: number, columns: number): QuantizedTile {
  return { name: `${rows}x${columns}`, rows, columns };
}

/** The kernels of a family by name: `int4_4x16`. */
export function quantizedKernels(family: TileFamily): Record<string, Kernel> {
  const formats: readonly QuantizedFormat[] = ['int8', 'int4'];
  return Object.fromEntries(
    formats.flatMap((format) =>
      QUANTIZED_TILES[family].map(({ name, rows, columns }) => [`${format}_${name}`, tile(format, rows, columns / 4)]),
    ),
  );
}

/**
 * (a, lda, w, s, c, ldc, groups): c[rows, 4 quads] = a w^T from the quantized rows at `a`; w and s are where the tile's
 * columns of weights and of scales begin in the panel's first block.
 */
function tile(format: QuantizedFormat, rows: number, quads: number): Kernel {
  return kernel(7, { ints: 1 + 2 * rows, vectors: rows * quads + 2 * quads + 2 }, (args, ints, vectors) => {
    const [a, lda, w, s, c, ldc, groups] = args;
    const [end] = ints;
    const inputs = ints.slice(1, 1 + rows);
    const outputs = ints.slice(1 + rows);
    const sums = Array.from({ length: rows }, (_, m) => vectors.slice(m * quads, (m + 1) * quads));
    const weights = vectors.slice(rows * quads, rows * quads + quads);
    const others = vectors.slice(rows * quads + quads, rows * quads + 2 * quads);
    const [x, zero] = vectors.slice(rows * quads + 2 * quads);

    const step = format === 'int8' ? stepInt8 : stepInt4;
    const steps = weightBytes(format) / weightStride(format);

    rowPointers(inputs, a, lda);
    rowPointers(outputs, c, ldc);
    words(0);
    local.set(zero);
    for (const at of outputs) for (let q = 0; q < quads; q++) store(at, 16 * q, zero);
    local.get(w);
    local.get(groups);
    i32.const(blockBytes(format));
    i32.mul();
    i32.add();
    local.set(end);
    untilEqual(w, end, blockBytes(format), () => {
      for (let m = 0; m < rows; m++) {
        if (format === 'int4') loadSplat(inputs[m], GROUP);
        else words(0);
        local.set(x);
        for (const sum of sums[m]) {
          local.get(x);
          local.set(sum);
        }
      }
      for (let i = 0; i < steps; i++) step(i, w, inputs, sums, weights, others, x);
      for (let m = 0; m < rows; m++) {
        loadSplat(inputs[m], inputBytes(format) - 4);
        local.set(x);
        for (let q = 0; q < quads; q++) addGroup(format, sums[m][q], x, s, outputs[m], q, weights[q], others[q]);
        for (let q = 0; q < quads; q++) store(outputs[m], 16 * q, others[q]);
        increase(inputs[m], inputBytes(format));
      }
      increase(s, blockBytes(format));
    });
  });
}

/** pointers[m] = first + m * stride */
function rowPointers(pointers: readonly Int[], first: Int, stride: Int): void {
  pointers.forEach((at, m) => {
    local.get(m === 0 ? first : pointers[m - 1]);
    local.set(at);
    if (m > 0) advance(at, stride);
  });
}

type Step = (
  i: number,
  w: Int,
  inputs: readonly Int[],
  sums: readonly Vec[][],
  weights: readonly Vec[],
  others: readonly Vec[],
  x: Vec,
) => void;

/** Two inputs: four columns' pairs of a vector meet the same pair of int16. */
const stepInt8: Step = (i, w, inputs, sums, weights, _others, x) => {
  weights.forEach((weight, q) => {
    local.get(w);
    v128.load8x8_s({ offset: i * weightStride('int8') + 8 * q }, $ as never);
    local.set(weight);
  });
  inputs.forEach((at, m) => {
    loadSplat(at, 4 * i);
    local.set(x);
    weights.forEach((weight, q) => {
      local.get(sums[m][q]);
      local.get(x);
      local.get(weight);
      i32x4.dot_i16x8_s();
      i32x4.add();
      local.set(sums[m][q]);
    });
  });
};

/** Eight inputs: four columns' fours of a vector, first the lower nibbles, then the upper. */
const stepInt4: Step = (i, w, inputs, sums, weights, others, x) => {
  weights.forEach((weight, q) => {
    load(w, i * weightStride('int4') + 16 * q);
    local.set(weight);
  });
  weights.forEach((weight, q) => {
    local.get(weight);
    i32.const(4);
    i16x8.shr_u();
    words(0x0f0f0f0f);
    v128.and();
    local.set(others[q]);
  });
  for (const weight of weights) {
    local.get(weight);
    words(0x0f0f0f0f);
    v128.and();
    local.set(weight);
  }
  inputs.forEach((at, m) => {
    [weights, others].forEach((nibbles, half) => {
      loadSplat(at, 8 * i + 4 * half);
      local.set(x);
      nibbles.forEach((weight, q) => {
        local.get(sums[m][q]);
        local.get(x);
        local.get(weight);
        i16x8.relaxed_dot_i8x16_i7x16_s();
        i16x8.add();
        local.set(sums[m][q]);
      });
    });
  });
};

/** result = output + sum * (input's scale * weights' scales) */
function addGroup(
  format: QuantizedFormat,
  sum: Vec,
  scale: Vec,
  s: Int,
  output: Int,
  q: number,
  factor: Vec,
  result: Vec,
): void {
  local.get(sum);
  if (format === 'int4') {
    words(0x00010001);
    i32x4.dot_i16x8_s();
  }
  f32x4.convert_i32x4_s();
  local.set(sum);
  local.get(scale);
  load(s, 16 * q);
  f32x4.mul();
  local.set(factor);
  load(output, 16 * q);
  local.set(result);
  multiplyAdd(sum, factor, result);
}
