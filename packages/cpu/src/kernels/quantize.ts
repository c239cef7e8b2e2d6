import { $, f32x4, i16x8, i32, i32x4, i8x16, if_, local, v128 } from 'wasmati';
import type { SourceDtype } from '../api.ts';
import { advance, increase, kernel, load, multiplyAdd, splat, store, words, whileBelow, zero } from '../wasm/emit.ts';
import type { Int, Kernel, Vec } from '../wasm/emit.ts';
import { blockBytes, GROUP, inputBytes, LARGEST_INPUT, weightStride, type QuantizedFormat } from './quantized.ts';

/*
 * Float rows to integers with one scale for each group of 32. Integers are rounded to nearest, ties to even. A group
 * without any magnitude from 2^-100 up is all zeros with scale 0; one with an infinity or NaN gets the scale NaN.
 */

/** Vectors that hold a group as float32. */
const VECTORS = GROUP / 4;
const BITS_OF_2_POW_MINUS_100 = (127 - 100) << 23;

/** (from, to, n): a float32 row of n elements to the quantized row at `to`; what is missing in the last group is zero. */
function quantizeInput(format: QuantizedFormat): Kernel {
  return kernel(3, { ints: 1, vectors: VECTORS + 3 }, ([from, to, n], [end], vectors) => {
    const x = vectors.slice(0, VECTORS);
    const [absolute, scale, t] = vectors.slice(VECTORS);
    groups(from, n, end, 'F32', x, t, () => {
      absoluteMaximum(x, absolute, t);
      scaled(x, absolute, scale, LARGEST_INPUT[format], t);
      toInt16(x);
      if (format === 'int8') {
        for (let i = 0; i < 4; i++) store(to, 16 * i, x[i]);
      } else {
        toInt8(x);
        for (let i = 0; i < 2; i++) store(to, 16 * i, x[i]);
        timesMinusFour(x, t, absolute);
        local.get(to);
        local.get(t);
        v128.store32_lane({ offset: GROUP }, 0, $ as never, $ as never);
      }
      local.get(to);
      local.get(scale);
      v128.store32_lane({ offset: inputBytes(format) - 4 }, 0, $ as never, $ as never);
      increase(to, inputBytes(format));
    });
  });
}

/**
 * (from, weights, scales, n): a row of n weights to the column of a panel whose first words and scale are at `weights`
 * and `scales`. int8: the scale is the absolute maximum / 127. int4: the element of largest magnitude becomes -8, as in
 * llama.cpp's q4_0, and the scale is then the one of least squared error for the rounded integers.
 */
function quantizeWeights(format: QuantizedFormat, dtype: SourceDtype): Kernel {
  return kernel(4, { ints: 1, vectors: 2 * VECTORS + 4 }, ([from, weights, scales, n], [end], vectors) => {
    const x = vectors.slice(0, VECTORS);
    const original = vectors.slice(VECTORS, 2 * VECTORS);
    const [absolute, scale, t, u] = vectors.slice(2 * VECTORS);
    groups(from, n, end, dtype, x, t, () => {
      absoluteMaximum(x, absolute, t);
      if (format === 'int8') {
        scaled(x, absolute, scale, 127, t);
        toInt16(x);
        toInt8(x);
        for (let i = 0; i < GROUP / 2; i++) {
          local.get(weights);
          local.get(x[i >> 3]);
          v128.store16_lane({ offset: weightStride(format) * i }, i & 7, $ as never, $ as never);
        }
      } else {
        x.forEach((vector, i) => {
          local.get(vector);
          local.set(original[i]);
        });
        signedMaximum(x, absolute, t, u);
        scaled(x, absolute, scale, -8, t);
        leastSquares(original, x, scale, t, u, absolute);
        toInt16(x);
        toInt8(x);
        nibbles(x, t);
        for (let i = 0; i < GROUP / 8; i++) {
          local.get(weights);
          local.get(t);
          v128.store32_lane({ offset: weightStride(format) * i }, i, $ as never, $ as never);
        }
      }
      local.get(scales);
      local.get(scale);
      v128.store32_lane({ offset: 0 }, 0, $ as never, $ as never);
      increase(weights, blockBytes(format));
      increase(scales, blockBytes(format));
    });
  });
}

/** Each group of a row as float32 in `x`; the last may be cut short and is filled up with zeros. Ends with n = 0. */
function groups(from: Int, n: Int, end: Int, dtype: SourceDtype, x: readonly Vec[], t: Vec, body: () => void): void {
  const bytes = dtype === 'F32' ? 4 : 2;
  local.get(n);
  i32.const(bytes);
  i32.mul();
  local.set(end);
  advance(end, from);
  whileBelow(from, end, GROUP * bytes, () => {
    const raw = x.slice(0, (GROUP * bytes) / 16);
    const perVector = 16 / bytes;
    // The last group is short when it would reach beyond the end.
    local.get(end);
    local.get(from);
    i32.sub();
    i32.const(GROUP * bytes);
    i32.ge_u();
    if_({}, () => {
      raw.forEach((vector, i) => {
        load(from, 16 * i);
        local.set(vector);
      });
    });
    local.get(end);
    local.get(from);
    i32.sub();
    i32.const(GROUP * bytes);
    i32.lt_u();
    if_({}, () => {
      for (const vector of raw) zero(vector);
      for (let i = 0; i < GROUP; i++) {
        local.get(end);
        local.get(from);
        i32.sub();
        i32.const(i * bytes);
        i32.gt_u();
        if_({}, () => {
          const vector = raw[Math.floor(i / perVector)];
          local.get(from);
          local.get(vector);
          if (bytes === 4) v128.load32_lane({ offset: i * bytes }, i % perVector, $ as never, $ as never);
          else v128.load16_lane({ offset: i * bytes }, i % perVector, $ as never, $ as never);
          local.set(vector);
        });
      }
    });
    if (dtype !== 'F32') widen(dtype, x, t);
    body();
  });
}

/** The 32 16-bit elements in x[0..3] to float32 in x[0..7], exactly. */
function widen(dtype: 'F16' | 'BF16', x: readonly Vec[], t: Vec): void {
  for (let i = 3; i >= 0; i--) {
    for (const half of [1, 0]) {
      const target = x[2 * i + half];
      // x[0] is both source and target: the upper half goes first.
      local.get(x[i]);
      if (half === 0) i32x4.extend_low_i16x8_u();
      else i32x4.extend_high_i16x8_u();
      if (dtype === 'BF16') {
        i32.const(16);
        i32x4.shl();
        local.set(target);
      } else {
        local.set(target === x[i] ? t : target);
        halfToFloat(target === x[i] ? t : target, target);
      }
    }
  }
}

/** binary16 bits in each lane to float32: a product with 2^112 moves the exponent; infinities and NaN by hand. */
function halfToFloat(bits: Vec, target: Vec): void {
  const [magnitude, sign] = [0x7fff, 0x8000];
  local.get(bits);
  words(magnitude);
  v128.and();
  i32.const(13);
  i32x4.shl();
  splat(2 ** 112);
  f32x4.mul();
  // From the exponent of infinity up: set the whole exponent.
  local.get(bits);
  words(magnitude);
  v128.and();
  words(0x7bff);
  i32x4.gt_s();
  words(0x7f800000);
  v128.and();
  v128.or();
  local.get(bits);
  words(sign);
  v128.and();
  i32.const(16);
  i32x4.shl();
  v128.or();
  local.set(target);
}

/** All lanes of `target` = the largest magnitude of the group; as integers, so that NaN is above everything. */
function absoluteMaximum(x: readonly Vec[], target: Vec, t: Vec): void {
  x.forEach((vector, i) => {
    local.get(vector);
    words(0x7fffffff);
    v128.and();
    if (i > 0) {
      local.get(target);
      i32x4.max_s();
    }
    local.set(target);
  });
  acrossLanes(target, t, () => i32x4.max_s());
}

/** `absolute` takes the sign of the first element of that magnitude: negative if there are both. */
function signedMaximum(x: readonly Vec[], absolute: Vec, t: Vec, u: Vec): void {
  // All ones where -absolute occurs.
  zero(t);
  for (const vector of x) {
    local.get(vector);
    local.get(absolute);
    f32x4.neg();
    i32x4.eq();
    local.get(t);
    v128.or();
    local.set(t);
  }
  acrossLanes(t, u, () => v128.or());
  local.get(t);
  words(0x80000000);
  v128.and();
  local.get(absolute);
  v128.or();
  local.set(absolute);
}

/** Combine all lanes of `vector`, in every lane: (0 op 1) op (2 op 3). */
function acrossLanes(vector: Vec, t: Vec, op: () => void): void {
  for (const order of [
    [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11],
    [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7],
  ]) {
    local.get(vector);
    local.get(vector);
    i8x16.shuffle(order);
    local.set(t);
    local.get(vector);
    local.get(t);
    op();
    local.set(vector);
  }
}

/**
 * x = round(x * (largest / maximum)), still float32, and scale = maximum / largest; zeros if the maximum is tiny. With a
 * negative `largest` the element `maximum` becomes `largest`, and what rounds to -largest is cut to -largest - 1.
 */
function scaled(x: readonly Vec[], maximum: Vec, scale: Vec, largest: number, t: Vec): void {
  // Ones where there is something to scale; comparing bits keeps NaN among them.
  local.get(maximum);
  words(0x7fffffff);
  v128.and();
  words(BITS_OF_2_POW_MINUS_100 - 1);
  i32x4.gt_s();
  local.set(scale);
  splat(largest);
  local.get(maximum);
  f32x4.div();
  local.get(scale);
  v128.and();
  local.set(t);
  for (const vector of x) {
    local.get(vector);
    local.get(t);
    f32x4.mul();
    f32x4.nearest();
    if (largest < 0) {
      splat(-largest - 1);
      f32x4.min();
    }
    local.set(vector);
  }
  local.get(maximum);
  splat(largest);
  f32x4.div();
  // Infinity - infinity and NaN - NaN are NaN, all else is 0.
  local.get(maximum);
  local.get(maximum);
  f32x4.sub();
  f32x4.add();
  local.get(scale);
  v128.and();
  local.set(scale);
}

/** scale = sum of original * q / sum of q * q, unless it is 0. */
function leastSquares(original: readonly Vec[], q: readonly Vec[], scale: Vec, t: Vec, u: Vec, v: Vec): void {
  zero(t);
  zero(u);
  q.forEach((integers, i) => {
    multiplyAdd(original[i], integers, t);
    multiplyAdd(integers, integers, u);
  });
  acrossLanes(t, v, () => f32x4.add());
  acrossLanes(u, v, () => f32x4.add());
  local.get(t);
  local.get(u);
  f32x4.div();
  local.get(scale);
  splat(0);
  f32x4.ne();
  v128.and();
  local.set(scale);
}

/** Whole float32 in x[0..7] to int16 in x[0..3]. What NaN becomes depends on the processor; its scale is NaN. */
function toInt16(x: readonly Vec[]): void {
  for (let i = 0; i < 4; i++) {
    for (const vector of [x[2 * i], x[2 * i + 1]]) {
      local.get(vector);
      i32x4.relaxed_trunc_f32x4_s();
    }
    i16x8.narrow_i32x4_s();
    local.set(x[i]);
  }
}

/** int16 in x[0..3] to int8 in x[0..1]. */
function toInt8(x: readonly Vec[]): void {
  for (let i = 0; i < 2; i++) {
    local.get(x[2 * i]);
    local.get(x[2 * i + 1]);
    i8x16.narrow_i16x8_s();
    local.set(x[i]);
  }
}

/** int8 -8..7 in x[0..1] to words of eight nibbles plus 8, in the order of a block's words. */
function nibbles(x: readonly Vec[], target: Vec): void {
  const wordsOf = (list: readonly number[]): number[] => list.flatMap((word) => [0, 1, 2, 3].map((b) => 4 * word + b));
  for (const vector of x.slice(0, 2)) {
    local.get(vector);
    words(0x08080808);
    i8x16.add();
    local.set(vector);
  }
  local.get(x[0]);
  local.get(x[1]);
  i8x16.shuffle(wordsOf([0, 2, 4, 6]));
  local.get(x[0]);
  local.get(x[1]);
  i8x16.shuffle(wordsOf([1, 3, 5, 7]));
  i32.const(4);
  i16x8.shl();
  v128.or();
  local.set(target);
}

/** Both halves of each word of `target` = -4 times the sum of the int8 in x[0..1]. */
function timesMinusFour(x: readonly Vec[], target: Vec, t: Vec): void {
  for (const vector of x.slice(0, 2)) {
    local.get(vector);
    i16x8.extadd_pairwise_i8x16_s();
  }
  i16x8.add();
  words(0xfffcfffc);
  i32x4.dot_i16x8_s();
  local.set(target);
  acrossLanes(target, t, () => i32x4.add());
  local.get(target);
  words(0xffff);
  v128.and();
  local.get(target);
  i32.const(16);
  i32x4.shl();
  v128.or();
  local.set(target);
}

const formats: readonly QuantizedFormat[] = ['int8', 'int4'];
const dtypes: readonly SourceDtype[] = ['F32', 'F16', 'BF16'];

/** `quantize_int4` for inputs, `pack_int4_BF16` for weights. */
export const quantizeKernels: Record<string, Kernel> = Object.fromEntries(
  formats.flatMap((format) => [
    [`quantize_${format}`, quantizeInput(format)],
    ...dtypes.map((dtype) => [`pack_${format}_${dtype}`, quantizeWeights(format, dtype)]),
  ]),
);
