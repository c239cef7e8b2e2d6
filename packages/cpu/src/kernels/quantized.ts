import { $, f32x4, i16x8, i32, i32x4, local, v128 } from 'wasmati';
import type { TileFamily } from '../api.ts';
import {
  advance,
  held,
  increase,
  kernel,
  load,
  loadSplat,
  multiplyAdd,
  store,
  untilEqual,
  words,
  zero,
} from '../wasm/emit.ts';
import type { Int, Kernel, Vec } from '../wasm/emit.ts';
import { PANEL } from './linear.ts';

/*
 * Products with int8 and int4 weights: within a group of 32 inputs the sums are integers and exact; each group's sum,
 * times both scales, is added to the output in float32, group after group. Both families and all tiles add in that
 * order, so they agree in every bit.
 */

export type QuantizedFormat = 'int8' | 'int4';

/**
 * How int4's integers are summed; the sums are the same. `pairs`: products in twos into int16, a group's sum widened
 * once: two instructions of AVX2 a step. `fours`: products in fours into int32: one instruction (vpdpbusd, sdot) where
 * the processor has it, three elsewhere.
 */
export type NibbleSums = 'pairs' | 'fours';

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
  /** Of the kernel for each format. */
  readonly names: Readonly<Record<QuantizedFormat, string>>;
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
  return { names: { int8: `int8_${rows}x${columns}`, int4: `int4_${rows}x${columns}` }, rows, columns };
}

/** The kernels of a family by name: `int4_4x16`. */
export function quantizedKernels(family: TileFamily, nibbleSums: NibbleSums): Record<string, Kernel> {
  const kinds = [int8, nibbleSums === 'pairs' ? int4Pairs : int4Fours];
  return Object.fromEntries(
    kinds.flatMap((kind) =>
      QUANTIZED_TILES[family].map(({ names, rows, columns }) => [names[kind.format], tile(kind, rows, columns / 4)]),
    ),
  );
}

/** What differs between the formats within a group. Vectors stand for four columns each. */
interface GroupSums {
  readonly format: QuantizedFormat;
  /** Every lane of it stays in a register through the loop. */
  readonly constant: number;
  /** Leaves a row's sum before the first product. */
  begin(input: Int, constant: Vec): void;
  /** Add what the `i`-th words of weights give to the sums of all rows. */
  step(i: number, tile: TileLocals): void;
  /** Leaves the group's sum as int32. */
  end(sum: Vec, constant: Vec): void;
}

interface TileLocals {
  readonly w: Int;
  readonly inputs: readonly Int[];
  readonly sums: readonly Vec[][];
  readonly weights: readonly Vec[];
  readonly others: readonly Vec[];
  readonly x: Vec;
  readonly constant: Vec;
}

/**
 * (a, lda, w, s, c, ldc, groups): c[rows, 4 quads] = a w^T from the quantized rows at `a`; w and s are where the tile's
 * columns of weights and of scales begin in the panel's first block.
 */
function tile(kind: GroupSums, rows: number, quads: number): Kernel {
  const { format } = kind;
  return kernel(7, { ints: 1 + 2 * rows, vectors: rows * quads + 2 * quads + 2 }, (args, ints, vectors) => {
    const [a, lda, w, s, c, ldc, groups] = args;
    const [end] = ints;
    const inputs = ints.slice(1, 1 + rows);
    const outputs = ints.slice(1 + rows);
    const sums = Array.from({ length: rows }, (_, m) => vectors.slice(m * quads, (m + 1) * quads));
    const weights = vectors.slice(rows * quads, rows * quads + quads);
    const others = vectors.slice(rows * quads + quads, rows * quads + 2 * quads);
    const [x, constant] = vectors.slice(rows * quads + 2 * quads);

    rowPointers(inputs, a, lda);
    rowPointers(outputs, c, ldc);
    zero(x);
    for (const at of outputs) for (let q = 0; q < quads; q++) store(at, 16 * q, x);
    held([kind.constant], [constant], lda);
    local.get(w);
    local.get(groups);
    i32.const(blockBytes(format));
    i32.mul();
    i32.add();
    local.set(end);
    untilEqual(w, end, blockBytes(format), () => {
      for (let m = 0; m < rows; m++) {
        kind.begin(inputs[m], constant);
        local.set(x);
        for (const sum of sums[m]) {
          local.get(x);
          local.set(sum);
        }
      }
      const steps = weightBytes(format) / weightStride(format);
      for (let i = 0; i < steps; i++) kind.step(i, { w, inputs, sums, weights, others, x, constant });
      for (let m = 0; m < rows; m++) {
        loadSplat(inputs[m], inputBytes(format) - 4);
        local.set(x);
        for (let q = 0; q < quads; q++) {
          const [factor, result] = [weights[q], others[q]];
          kind.end(sums[m][q], constant);
          f32x4.convert_i32x4_s();
          local.set(sums[m][q]);
          local.get(x);
          load(s, 16 * q);
          f32x4.mul();
          local.set(factor);
          load(outputs[m], 16 * q);
          local.set(result);
          multiplyAdd(sums[m][q], factor, result);
        }
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

/** Two inputs a step: four columns' pairs of a vector meet the same pair of int16. */
const int8: GroupSums = {
  format: 'int8',
  constant: 0,
  begin: (_input, constant) => local.get(constant),
  step: (i, { w, inputs, sums, weights, x }) => {
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
  },
  end: (sum) => local.get(sum),
};

const LOW_NIBBLES = 0x0f0f0f0f;

const int4Pairs: GroupSums = {
  format: 'int4',
  constant: LOW_NIBBLES,
  begin: (input) => loadSplat(input, GROUP),
  step: (i, tile) => {
    stepInt4(i, tile, (x, weight, sum) => {
      local.get(sum);
      local.get(x);
      local.get(weight);
      i16x8.relaxed_dot_i8x16_i7x16_s();
      i16x8.add();
      local.set(sum);
    });
  },
  end: (sum) => {
    local.get(sum);
    words(0x00010001);
    i32x4.dot_i16x8_s();
  },
};

const int4Fours: GroupSums = {
  format: 'int4',
  constant: LOW_NIBBLES,
  begin: (input) => {
    loadSplat(input, GROUP);
    words(0x00010001);
    i32x4.dot_i16x8_s();
  },
  step: (i, tile) => {
    stepInt4(i, tile, (x, weight, sum) => {
      local.get(x);
      local.get(weight);
      local.get(sum);
      i32x4.relaxed_dot_i8x16_i7x16_add_s();
      local.set(sum);
    });
  },
  end: (sum) => local.get(sum),
};

/** Eight inputs a step: four columns' fours of a vector, first the lower nibbles, then the upper. */
function stepInt4(i: number, tile: TileLocals, dot: (x: Vec, weight: Vec, sum: Vec) => void): void {
  const { w, inputs, sums, weights, others, x, constant } = tile;
  weights.forEach((weight, q) => {
    load(w, i * weightStride('int4') + 16 * q);
    local.set(weight);
  });
  weights.forEach((weight, q) => {
    local.get(weight);
    i32.const(4);
    i16x8.shr_u();
    local.get(constant);
    v128.and();
    local.set(others[q]);
  });
  for (const weight of weights) {
    local.get(weight);
    local.get(constant);
    v128.and();
    local.set(weight);
  }
  inputs.forEach((at, m) => {
    [weights, others].forEach((nibbles, half) => {
      loadSplat(at, 8 * i + 4 * half);
      local.set(x);
      nibbles.forEach((weight, q) => dot(x, weight, sums[m][q]));
    });
  });
}
