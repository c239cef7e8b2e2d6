/**
 * The number formats of the GPU, exactly: between float64 (a JavaScript number) and the bits of f16, bf16, e4m3, e5m2 and
 * tf32. Rounding and saturation are those of PTX ISA 9.0, `cvt`; 8-bit formats are OCP's (OFP8 1.0).
 */

/** Nearest with ties to even, towards zero, down, up. */
export type Rounding = 'rn' | 'rz' | 'rm' | 'rp';

export interface FloatFormat {
  /** Bits of the fraction that are stored. */
  readonly fraction: number;
  readonly exponent: number;
  /** Exponent of the smallest normal number. */
  readonly lowest: number;
  /** Largest finite number. */
  readonly largest: number;
  /** Bits of the largest finite number, of infinity (where there is one) and of NaN. */
  readonly largestBits: number;
  readonly infinity: number | undefined;
  readonly nan: number;
}

export type SmallFloat = 'f16' | 'bf16' | 'e4m3' | 'e5m2';

export const FLOAT_FORMATS: Readonly<Record<SmallFloat, FloatFormat>> = {
  f16: { fraction: 10, exponent: 5, lowest: -14, largest: 65504, largestBits: 0x7bff, infinity: 0x7c00, nan: 0x7fff },
  bf16: {
    fraction: 7,
    exponent: 8,
    lowest: -126,
    largest: (2 - 2 ** -7) * 2 ** 127,
    largestBits: 0x7f7f,
    infinity: 0x7f80,
    nan: 0x7fff,
  },
  e4m3: { fraction: 3, exponent: 4, lowest: -6, largest: 448, largestBits: 0x7e, infinity: undefined, nan: 0x7f },
  e5m2: { fraction: 2, exponent: 5, lowest: -14, largest: 57344, largestBits: 0x7b, infinity: 0x7c, nan: 0x7f },
};

const f64 = new Float64Array(1);
const words = new Uint32Array(f64.buffer);
const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

/** `quotient` (of magnitude below 2^53) as a whole number. */
function roundWhole(quotient: number, rounding: Rounding): number {
  const down = Math.floor(quotient);
  const rest = quotient - down;
  if (rest === 0) return quotient;
  switch (rounding) {
    case 'rz':
      return Math.trunc(quotient);
    case 'rm':
      return down;
    case 'rp':
      return down + 1;
    case 'rn':
      return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
  }
}

/** floor(log2(value)) of a positive normal float64. */
function exponentOf(value: number): number {
  f64[0] = value;
  return ((words[1] >>> 20) & 0x7ff) - 1023;
}

/**
 * The bits of `value` in a small format.
 *
 * @param saturate numbers beyond the largest become it (PTX `.satfinite`; NaN stays NaN). Without it they become
 * infinity where rounding goes away from zero; a format without infinities gives NaN.
 */
export function encodeFloat(
  name: SmallFloat,
  value: number,
  rounding: Rounding = 'rn',
  saturate: boolean = false,
): number {
  const format: FloatFormat = FLOAT_FORMATS[name];
  if (value !== value) return format.nan;
  const sign = value < 0 || Object.is(value, -0) ? 1 << (format.fraction + format.exponent) : 0;
  const size = Math.abs(value);
  if (size === Infinity) return sign | (saturate ? format.largestBits : (format.infinity ?? format.nan));
  if (size === 0) return sign;
  const exponent = size < 2 ** format.lowest ? format.lowest : exponentOf(size);
  const unit = 2 ** (exponent - format.fraction);
  const towards = sign === 0 ? rounding : rounding === 'rm' ? 'rp' : rounding === 'rp' ? 'rm' : rounding;
  const whole = roundWhole(size / unit, towards);
  if (whole * unit > format.largest) {
    const away = towards === 'rn' || towards === 'rp';
    return sign | (saturate || !away ? format.largestBits : (format.infinity ?? format.nan));
  }
  // A carry out of the fraction raises the exponent by itself: the encoding is monotonic.
  return sign | (whole + (exponent - format.lowest) * 2 ** format.fraction);
}

/** The number that bits of a small format stand for. */
export function decodeFloat(name: SmallFloat, bits: number): number {
  const format: FloatFormat = FLOAT_FORMATS[name];
  const magnitude = bits & (2 ** (format.fraction + format.exponent) - 1);
  const sign = (bits >>> (format.fraction + format.exponent)) & 1 ? -1 : 1;
  if (format.infinity === undefined ? magnitude === format.nan : magnitude >= format.infinity) {
    return magnitude === format.infinity ? sign * Infinity : NaN;
  }
  const exponent = magnitude >>> format.fraction;
  const fraction = magnitude & (2 ** format.fraction - 1);
  if (exponent === 0) return sign * fraction * 2 ** (format.lowest - format.fraction);
  return sign * (2 ** format.fraction + fraction) * 2 ** (format.lowest - format.fraction + exponent - 1);
}

/** bf16 of a float32: the one rounding that kernels do all the time, on bits. Same result as `encodeFloat`. */
export function f32ToBf16(value: number): number {
  if (value !== value) return 0x7fff;
  single[0] = value;
  const bits = singleBits[0];
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bf16ToF32(bits: number): number {
  singleBits[0] = bits << 16;
  return single[0];
}

/** Numbers of every f16, by bits. */
let halves: Float32Array | undefined;

export function f16ToF32(bits: number): number {
  halves ??= Float32Array.from({ length: 65536 }, (_, i) => decodeFloat('f16', i));
  return halves[bits & 0xffff];
}

/**
 * A float32 rounded to tf32: 10 bits of fraction, the lower 13 bits of the result are zero.
 *
 * @param saturate finite instead of infinite
 */
export function roundTf32(value: number, rounding: Rounding = 'rn', saturate: boolean = false): number {
  if (value !== value || value === 0) return value;
  const size = Math.abs(value);
  const largest = (2 - 2 ** -10) * 2 ** 127;
  if (size === Infinity) return saturate ? Math.sign(value) * largest : value;
  const exponent = size < 2 ** -126 ? -126 : exponentOf(size);
  const unit = 2 ** (exponent - 10);
  const rounded = roundWhole(value / unit, rounding) * unit;
  if (Math.abs(rounded) > largest) {
    const away = rounding === 'rn' || (rounding === 'rp') === value > 0;
    return Math.sign(value) * (saturate || !away || rounding === 'rz' ? largest : Infinity);
  }
  return rounded === 0 && value < 0 ? -0 : rounded;
}

/** What the tensor cores read of a float32 that was not rounded: its upper 19 bits. */
export function truncateTf32(value: number): number {
  single[0] = value;
  singleBits[0] &= 0xffffe000;
  return single[0];
}

/** A float64 as float32 in any rounding. */
export function roundF32(value: number, rounding: Rounding = 'rn'): number {
  const nearest = Math.fround(value);
  if (rounding === 'rn' || nearest === value || nearest !== nearest) return nearest;
  const up = nearest > value;
  const wantUp = rounding === 'rp' || (rounding === 'rz' && value < 0);
  if (up === wantUp) return nearest;
  return up ? nextDown(nearest) : -nextDown(-nearest);
}

/** The float32 just below. */
function nextDown(value: number): number {
  if (value === Infinity) return (2 - 2 ** -23) * 2 ** 127;
  if (value === 0) return -(2 ** -149);
  single[0] = value;
  if (value > 0) singleBits[0]--;
  else singleBits[0]++;
  return single[0];
}

/** Bits of a float32, and back. */
export function f32Bits(value: number): number {
  single[0] = value;
  return singleBits[0];
}

export function f32FromBits(bits: number): number {
  singleBits[0] = bits;
  return single[0];
}

/** The sum of two float64, nudged to an odd last bit where it is not exact: rounding that to fewer bits rounds once. */
export function oddSum(left: number, right: number): number {
  const sum = left + right;
  if (!Number.isFinite(sum)) return sum;
  const part = sum - left;
  const error = left - (sum - part) + (right - part);
  if (error === 0) return sum;
  f64[0] = sum;
  if (words[0] & 1) return sum;
  // One step towards the error; the last bit is 0, so that going away from zero sets it and going to zero borrows.
  if (error > 0 === sum > 0) words[0] |= 1;
  else if (words[0] === 0) {
    words[0] = 0xffffffff;
    words[1]--;
  } else words[0]--;
  return f64[0];
}

/** a * b + c in float32, rounded once. */
export function fmaF32(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const rounded = Math.fround(sum);
  if (rounded === sum) return rounded;
  // Only a sum that lies between two float32 exactly halfway can have been rounded twice.
  const other = 2 * sum - rounded;
  if (Math.fround(other) !== other) return rounded;
  return Math.fround(oddSum(product, c));
}

/** a * b + c in float64, rounded once: products of float64 need 106 bits. */
export function fmaF64(a: number, b: number, c: number): number {
  const plain = a * b + c;
  if (!Number.isFinite(a) || !Number.isFinite(b) || !Number.isFinite(c)) return plain;
  if (a === 0 || b === 0) return plain;
  const [x, y, z] = [exact(a), exact(b), exact(c)];
  const exponent = x.exponent + y.exponent;
  const low = Math.min(exponent, z.exponent);
  const sum = ((x.whole * y.whole) << BigInt(exponent - low)) + (z.whole << BigInt(z.exponent - low));
  return sum === 0n ? plain : fromExact(sum, low);
}

function exact(value: number): { whole: bigint; exponent: number } {
  if (value === 0) return { whole: 0n, exponent: 0 };
  f64[0] = value;
  const bits = (words[1] & 0xfffff) * 2 ** 32 + words[0];
  const field = (words[1] >>> 20) & 0x7ff;
  const whole = BigInt(field === 0 ? bits : bits + 2 ** 52);
  return { whole: value < 0 ? -whole : whole, exponent: Math.max(field, 1) - 1075 };
}

/** whole * 2^exponent to nearest even. */
function fromExact(whole: bigint, exponent: number): number {
  const negative = whole < 0n;
  const size = negative ? -whole : whole;
  const length = size.toString(2).length;
  // Bits below the last one that float64 has, subnormals included.
  const drop = Math.max(length - 53, -1074 - exponent);
  let kept = size;
  if (drop > 0) {
    const shift = BigInt(drop);
    kept = size >> shift;
    const rest = size - (kept << shift);
    const half = 1n << (shift - 1n);
    if (rest > half || (rest === half && (kept & 1n) === 1n)) kept += 1n;
  }
  const scale = exponent + Math.max(drop, 0);
  let value = Number(kept);
  // In two steps, so that neither overflows on the way to a subnormal or a large result.
  const first = Math.trunc(scale / 2);
  value = value * 2 ** first * 2 ** (scale - first);
  return negative ? -value : value;
}

/**
 * A float as an integer of `bits` bits, rounded and saturated as PTX's `cvt` does. NaN gives 0; with 64 bits, or from
 * f64, it gives the number whose only set bit is the highest.
 */
export function toInteger(value: number, rounding: Rounding, bits: number, signed: boolean, fromF64: boolean): bigint {
  const least = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const most = signed ? (1n << BigInt(bits - 1)) - 1n : (1n << BigInt(bits)) - 1n;
  if (value !== value) return bits === 64 || fromF64 ? (signed ? least : 1n << BigInt(bits - 1)) : 0n;
  if (value === Infinity) return most;
  if (value === -Infinity) return least;
  const whole = BigInt(Math.abs(value) < 2 ** 52 ? roundWhole(value, rounding) : value);
  return whole < least ? least : whole > most ? most : whole;
}
