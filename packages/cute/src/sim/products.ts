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

/** Elements in a 32-bit register, low first, into a matrix at `at`, `at + 1`... */
export function unpackElements(element: MatrixElement, word: number, into: Float64Array, at: number): void {
  const bytes = ELEMENT_BYTES[element];
  for (let e = 0; e < 4 / bytes; e++)
    into[at + e] = decodeElement(element, bytes === 4 ? word : word >>> (8 * bytes * e));
}
