import assert from 'node:assert/strict';
import test from 'node:test';
import {
  bf16ToF32,
  decodeFloat,
  encodeFloat,
  f16ToF32,
  f32Bits,
  f32FromBits,
  f32ToBf16,
  FLOAT_FORMATS,
  fmaF32,
  fmaF64,
  oddSum,
  roundF32,
  roundTf32,
  toInteger,
  truncateTf32,
  type Rounding,
  type SmallFloat,
} from '../src/types/numeric.ts';

const NAMES = Object.keys(FLOAT_FORMATS) as SmallFloat[];

/** All finite numbers of a format in ascending order, without -0. */
function finite(name: SmallFloat): { value: number; bits: number }[] {
  const { largestBits, fraction, exponent } = FLOAT_FORMATS[name];
  const sign = 1 << (fraction + exponent);
  const out: { value: number; bits: number }[] = [];
  for (let i = largestBits; i > 0; i--) out.push({ value: decodeFloat(name, sign | i), bits: sign | i });
  for (let i = 0; i <= largestBits; i++) out.push({ value: decodeFloat(name, i), bits: i });
  return out;
}

for (const name of NAMES) {
  test(`${name}: every number comes back, and neighbours ascend`, () => {
    const all = finite(name);
    for (const [i, { value, bits }] of all.entries()) {
      for (const rounding of ['rn', 'rz', 'rm', 'rp'] as const) {
        if (encodeFloat(name, value, rounding) !== bits) assert.fail(`${value} gives another number with ${rounding}`);
      }
      if (i > 0 && value <= all[i - 1].value) assert.fail(`${value} does not ascend`);
    }
    assert.equal(all[all.length - 1].value, FLOAT_FORMATS[name].largest);
  });

  test(`${name}: what lies between two numbers goes where the rounding says`, () => {
    const all = finite(name);
    for (let i = 1; i < all.length; i++) {
      const [low, high] = [all[i - 1], all[i]];
      if (low.bits === 0 || high.bits === 0) continue;
      const middle = (low.value + high.value) / 2;
      const quarter = (low.value + middle) / 2;
      const even = low.bits & 1 ? high : low;
      const expected: [number, Rounding, number][] = [
        [middle, 'rn', even.bits],
        [quarter, 'rn', low.bits],
        [(middle + high.value) / 2, 'rn', high.bits],
        [quarter, 'rm', low.bits],
        [quarter, 'rp', high.bits],
        [quarter, 'rz', low.value < 0 ? high.bits : low.bits],
      ];
      for (const [value, rounding, bits] of expected) {
        const got = encodeFloat(name, value, rounding);
        if (got !== bits) assert.fail(`${value} ${rounding}: ${got}, not ${bits}`);
      }
    }
  });

  test(`${name}: beyond the largest, zeros and NaN`, () => {
    const { largest, largestBits, infinity, nan, fraction, exponent, lowest } = FLOAT_FORMATS[name];
    const sign = 1 << (fraction + exponent);
    const beyond = infinity ?? nan;
    const step = 2 ** (Math.floor(Math.log2(largest)) - fraction);
    assert.equal(encodeFloat(name, largest + step * 0.49), largestBits);
    if (infinity !== undefined) assert.equal(encodeFloat(name, largest + step * 0.5), infinity);
    assert.equal(encodeFloat(name, 1e300), beyond);
    assert.equal(encodeFloat(name, 1e300, 'rn', true), largestBits);
    assert.equal(encodeFloat(name, -1e300, 'rn', true), sign | largestBits);
    assert.equal(encodeFloat(name, 1e300, 'rz'), largestBits);
    assert.equal(encodeFloat(name, 1e300, 'rm'), largestBits);
    assert.equal(encodeFloat(name, -1e300, 'rm'), sign | beyond);
    assert.equal(encodeFloat(name, Infinity), beyond);
    assert.equal(encodeFloat(name, NaN), nan);
    assert.equal(encodeFloat(name, NaN, 'rn', true), nan);
    assert.equal(encodeFloat(name, -0), sign);
    assert.equal(encodeFloat(name, 2 ** (lowest - fraction - 1)), 0);
    assert.equal(encodeFloat(name, -(2 ** (lowest - fraction - 1))), sign);
    assert.equal(encodeFloat(name, 2 ** (lowest - fraction - 1) * 1.001), 1);
    assert.ok(Number.isNaN(decodeFloat(name, nan)));
  });
}

test('values of the formats as their standards list them', () => {
  assert.equal(decodeFloat('e4m3', 0x7e), 448);
  assert.equal(decodeFloat('e4m3', 0x01), 2 ** -9);
  assert.equal(decodeFloat('e4m3', 0x38), 1);
  assert.equal(decodeFloat('e5m2', 0x7b), 57344);
  assert.equal(decodeFloat('e5m2', 0xfc), -Infinity);
  assert.equal(decodeFloat('e5m2', 0x01), 2 ** -16);
  assert.equal(decodeFloat('f16', 0x3555), 0.333251953125);
  assert.equal(decodeFloat('bf16', 0x4049), 3.140625);
  assert.equal(f16ToF32(0xfbff), -65504);
});

test('bf16 on bits is bf16 by rounding, for all upper halves and what decides', () => {
  for (let high = 0; high < 65536; high++) {
    for (const low of [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff]) {
      const value = f32FromBits(((high << 16) | low) >>> 0);
      if (f32ToBf16(value) !== encodeFloat('bf16', value)) assert.fail(`${value}`);
    }
    const value = bf16ToF32(high);
    if (!Object.is(value, decodeFloat('bf16', high))) assert.fail(`${high}`);
  }
});

test('tf32 keeps ten bits', () => {
  assert.equal(roundTf32(1 + 2 ** -11), 1);
  assert.equal(roundTf32(1 + 3 * 2 ** -11), 1 + 2 ** -9);
  assert.equal(roundTf32(1 + 2 ** -11 + 2 ** -23), 1 + 2 ** -10);
  assert.equal(roundTf32(1 + 2 ** -11, 'rp'), 1 + 2 ** -10);
  assert.equal(roundTf32(-1 - 2 ** -11, 'rz'), -1);
  assert.equal(roundTf32(-1 - 2 ** -11, 'rm'), -1 - 2 ** -10);
  assert.equal(roundTf32((2 - 2 ** -23) * 2 ** 127), Infinity);
  assert.equal(roundTf32((2 - 2 ** -23) * 2 ** 127, 'rn', true), (2 - 2 ** -10) * 2 ** 127);
  assert.equal(roundTf32(2 ** -149), 0);
  assert.equal(truncateTf32(1 + 2 ** -10 + 2 ** -11), 1 + 2 ** -10);
  for (let i = 0; i < 2000; i++) {
    const value = f32FromBits((i * 2654435761) >>> 0);
    if (value === value && (f32Bits(roundTf32(value)) & 0x1fff) !== 0) assert.fail(`${value}`);
  }
});

test('float32 in four roundings', () => {
  const value = 1 + 2 ** -30;
  assert.equal(roundF32(value, 'rn'), 1);
  assert.equal(roundF32(value, 'rp'), 1 + 2 ** -23);
  assert.equal(roundF32(value, 'rm'), 1);
  assert.equal(roundF32(-value, 'rm'), -1 - 2 ** -23);
  assert.equal(roundF32(-value, 'rz'), -1);
  assert.equal(roundF32(1e300, 'rz'), (2 - 2 ** -23) * 2 ** 127);
  assert.equal(roundF32(1e300, 'rp'), Infinity);
  assert.equal(roundF32(1e-300, 'rp'), 2 ** -149);
  assert.ok(Object.is(roundF32(-1e-300, 'rp'), -0));
  assert.equal(roundF32(-1e-300, 'rm'), -(2 ** -149));
});

/** whole * 2^exponent as float32 by definition: exact, on bigints. */
function reference(a: number, b: number, c: number): number {
  const scale = (x: number): bigint => {
    const [text, shift] = [x * 2 ** 149, 0];
    return BigInt(text) << BigInt(shift);
  };
  // All three are multiples of 2^-149; the product of 2^-298.
  const sum = scale(a) * scale(b) + (scale(c) << 149n);
  const negative = sum < 0n;
  const size = negative ? -sum : sum;
  if (size === 0n) return a * b + c;
  const length = size.toString(2).length;
  const drop = BigInt(Math.max(length - 24, 149));
  let kept = size >> drop;
  const rest = size - (kept << drop);
  const half = 1n << (drop - 1n);
  if (rest > half || (rest === half && (kept & 1n) === 1n)) kept += 1n;
  const value = Number(kept) * 2 ** (Number(drop) - 149) * 2 ** -149;
  return Math.fround(negative ? -value : value);
}

test('fma of float32 rounds once', () => {
  let state = 12345;
  const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
  const number = (): number => {
    const exponent = 100 + ((next() >>> 8) % 60);
    // Few bits make halfway cases.
    const fraction = next() & (next() & 1 ? 0x7fffff : 0x700001);
    return f32FromBits(((next() & 0x80000000) | (exponent << 23) | fraction) >>> 0);
  };
  for (let i = 0; i < 20000; i++) {
    const [a, b, c] = [number(), number(), number()];
    const got = fmaF32(a, b, c);
    const expected = reference(a, b, c);
    if (got !== expected) assert.fail(`fma(${a}, ${b}, ${c}): ${got}, not ${expected}`);
  }
  // Rounding twice would give 1.
  const half = 2 ** -24;
  assert.equal(fmaF32(1 + 2 ** -23, half, 1), 1 + 2 ** -23);
  assert.equal(fmaF32(2 ** -40, 2 ** -40, 1 + 2 ** -23), 1 + 2 ** -23);
  assert.equal(fmaF32(half, 1, f32FromBits(0x3f800001)), 1 + 2 ** -22);
  assert.equal(fmaF32(2 ** 100, 2 ** 100, 1), Infinity);
  assert.ok(Number.isNaN(fmaF32(Infinity, 0, 1)));
});

test('fma of float64 rounds once', () => {
  const e = 2 ** -52;
  assert.equal(fmaF64(1 + e, 1 + e, -(1 + 2 * e)), e * e);
  assert.equal(fmaF64(0.1, 10, -1), 5.551115123125783e-17);
  assert.equal(fmaF64(3, 5, 7), 22);
  assert.equal(fmaF64(2 ** 1000, 2 ** 1000, 0), Infinity);
  assert.equal(fmaF64(2 ** -1074, 0.5, 2 ** -1074), 2 ** -1073);
  assert.ok(Object.is(fmaF64(0, -1, -0), -0));
});

test('a sum that is not exact has an odd last bit', () => {
  const bits = (value: number): bigint => new BigUint64Array(Float64Array.of(value).buffer)[0];
  assert.equal(oddSum(1, 2), 3);
  for (const [a, b] of [
    [1, 2 ** -80],
    [1, -(2 ** -80)],
    [-1, 2 ** -80],
    [1 + 2 ** -52, 2 ** -60],
  ]) {
    assert.equal(bits(oddSum(a, b)) & 1n, 1n);
    assert.ok(Math.abs(oddSum(a, b) - a) <= 2 ** -52);
  }
  assert.ok(oddSum(1, -(2 ** -80)) < 1 && oddSum(1, 2 ** -80) > 1);
});

test('floats to integers', () => {
  assert.equal(toInteger(2.5, 'rn', 32, true, false), 2n);
  assert.equal(toInteger(-2.5, 'rz', 32, true, false), -2n);
  assert.equal(toInteger(-2.5, 'rm', 32, true, false), -3n);
  assert.equal(toInteger(2.1, 'rp', 32, true, false), 3n);
  assert.equal(toInteger(1e20, 'rz', 32, true, false), 2147483647n);
  assert.equal(toInteger(-1, 'rz', 32, false, false), 0n);
  assert.equal(toInteger(300, 'rz', 8, true, false), 127n);
  assert.equal(toInteger(NaN, 'rz', 32, true, false), 0n);
  assert.equal(toInteger(NaN, 'rz', 64, true, false), -(1n << 63n));
  assert.equal(toInteger(NaN, 'rz', 32, false, true), 1n << 31n);
  assert.equal(toInteger(2 ** 63, 'rz', 64, false, false), 1n << 63n);
});
