import type { AccumulatorElement, MatrixElement } from '../atoms/mma-shapes.ts';
import { bf16ToF32, decodeFloat, encodeFloat, f16ToF32, truncateTf32, f32FromBits } from '../types/numeric.ts';

/** The arithmetic of the tensor cores. */

export const ELEMENT_BYTES: Readonly<Record<MatrixElement, number>> = {
  f16: 2,
  bf16: 2,
  tf32: 4,
  e4m3: 1,
  e5m2: 1,
  i8: 1,
  u8: 1,
};

const tables = new Map<MatrixElement, Float64Array>();

function tableOf(element: 'e4m3' | 'e5m2'): Float64Array {
  let table = tables.get(element);
  if (!table) tables.set(element, (table = Float64Array.from({ length: 256 }, (_, i) => decodeFloat(element, i))));
  return table;
}

/** The number of an element's bits. */
export function decodeElement(element: MatrixElement, bits: number): number {
  switch (element) {
    case 'f16':
      return f16ToF32(bits & 0xffff);
    case 'bf16':
      return bf16ToF32(bits & 0xffff);
    case 'tf32':
      return truncateTf32(f32FromBits(bits >>> 0));
    case 'i8':
      return (bits << 24) >> 24;
    case 'u8':
      return bits & 0xff;
    default:
      return tableOf(element)[bits & 0xff];
  }
}

/**
 * One element of D: c plus the sum of k products. The products are exact and are added up in float64, then with c, and
 * rounded once to D's type. The hardware adds them in groups and drops low bits of its own accord, in an order that is
 * not specified: the last bits may differ (APPROXIMATE says so). Everything that multiplies matrices goes through here,
 * so that it can be matched to measurements in one place.
 */
export function accumulate(
  d: AccumulatorElement,
  c: number,
  a: Float64Array,
  row: number,
  b: Float64Array,
  column: number,
  k: number,
  saturate: boolean,
): number {
  let sum = 0;
  for (let i = 0; i < k; i++) sum += a[row + i] * b[column + i];
  if (d === 'f32') return Math.fround(c + sum);
  if (d === 'i32') {
    const total = c + sum;
    return saturate ? Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, total)) : Number(BigInt.asIntN(32, BigInt(total)));
  }
  return f16ToF32(encodeFloat('f16', c + sum));
}

/** Bits of the fraction that Hopper's tensor cores keep of sums of 8-bit floats. */
const NARROW_BITS = 13;
/** The exponent of zero: below all others. */
const NO_EXPONENT = -1000;
/** Exponents of the smallest normal numbers, which smaller ones have, too. */
const LOWEST = { e4m3: -6, e5m2: -14 } as const;

const single = new Float32Array(1);
const singleBits = new Int32Array(single.buffer);

/** Exponents of 8-bit floats, as they are stored: those of denormals are the lowest. */
export function exponentsOf(element: 'e4m3' | 'e5m2', values: Float64Array): Int16Array {
  return Int16Array.from(values, (value) => (value === 0 ? NO_EXPONENT : Math.max(LOWEST[element], exponentOf(value))));
}

function exponentOf(value: number): number {
  single[0] = value;
  return ((singleBits[0] >>> 23) & 255) - 127;
}

/** A row of 8-bit floats among others, with all their exponents. */
export interface NarrowRow {
  readonly values: Float64Array;
  readonly exponents: Int16Array;
  readonly at: number;
}

/**
 * One element of D of a wgmma of 8-bit floats into f32: c and the k products are cut off at 2^-13 of the largest one's
 * exponent, where that of a product is the sum of its factors' exponents, added up exactly, and the sum is cut off behind
 * 13 bits of its fraction. Measured on an H100 for e4m3: equal bits for 12288 sums of 32, 64 and 128 products; e5m2 is
 * taken to be the same.
 */
export function accumulateNarrow(c: number, a: NarrowRow, b: NarrowRow, k: number): number {
  let highest = c === 0 ? NO_EXPONENT : exponentOf(c);
  let check = c;
  for (let i = 0; i < k; i++) {
    highest = Math.max(highest, a.exponents[a.at + i] + b.exponents[b.at + i]);
    check += a.values[a.at + i] * b.values[b.at + i];
  }
  // Infinities and NaN go their usual way.
  if (!Number.isFinite(check) || highest <= NO_EXPONENT / 2) return Math.fround(check);
  const units = 2 ** (NARROW_BITS - highest);
  let sum = Math.trunc(c * units);
  for (let i = 0; i < k; i++) sum += Math.trunc(a.values[a.at + i] * b.values[b.at + i] * units);
  const beyond = 31 - Math.clz32(Math.abs(sum)) - NARROW_BITS;
  if (beyond > 0) sum = Math.trunc(sum / 2 ** beyond) * 2 ** beyond;
  return Math.fround(sum / units);
}

/** Elements in a 32-bit register, low first, into a matrix at `at`, `at + 1`... */
export function unpackElements(element: MatrixElement, word: number, into: Float64Array, at: number): void {
  const bytes = ELEMENT_BYTES[element];
  for (let e = 0; e < 4 / bytes; e++)
    into[at + e] = decodeElement(element, bytes === 4 ? word : word >>> (8 * bytes * e));
}
