import {
  decodeFloat,
  encodeFloat,
  f16ToF32,
  f32Bits,
  f32FromBits,
  f32ToBf16,
  bf16ToF32,
  FLOAT_FORMATS,
  fmaF32,
  fmaF64,
  oddSum,
  roundF32,
  roundTf32,
  toInteger,
  type Rounding,
  type SmallFloat,
} from '../types/numeric.ts';

/** Functions that generated code calls. */

/**
 * Operations whose results here are the exact ones rounded once, where the GPU computes approximations: bits may differ.
 * Also: products of matrices (the order of their sums), and the payload of NaN.
 */
export const APPROXIMATE: readonly string[] = [
  'approx ex2',
  'approx lg2',
  'approx rsqrt',
  'approx rcp',
  'approx sqrt',
  'approx tanh',
  'approx sin',
  'approx cos',
  'div approx',
  'mma',
  'wgmma',
  'tcgen05_mma',
];

const f64 = new Float64Array(1);
const longs = new BigUint64Array(f64.buffer);

function flush(x: number): number {
  return x < 2 ** -126 && x > -(2 ** -126) && x === x ? (x < 0 || Object.is(x, -0) ? -0 : 0) : x;
}

const APPROX: Record<string, (x: number) => number> = {
  ex2: (x) => 2 ** x,
  lg2: Math.log2,
  rsqrt: (x) => 1 / Math.sqrt(x),
  rcp: (x) => 1 / x,
  sqrt: Math.sqrt,
  tanh: Math.tanh,
  sin: Math.sin,
  cos: Math.cos,
};

/** `name.approx.ftz.f32`; tanh keeps subnormal numbers. */
function approx(name: string, x: number): number {
  if (name === 'tanh') return Math.fround(Math.tanh(x));
  return flush(Math.fround(APPROX[name](flush(x))));
}

/** A float of 16 bits as a number. */
function decode16(name: 'f16' | 'bf16', bits: number): number {
  return name === 'f16' ? f16ToF32(bits) : bf16ToF32(bits);
}

export function min(a: number, b: number): number {
  return a !== a ? b : b !== b ? a : Math.min(a, b);
}

export function max(a: number, b: number): number {
  return a !== a ? b : b !== b ? a : Math.max(a, b);
}

type Binary = (a: number, b: number, c: number) => number;

/** Exact, or rounded to odd: what is rounded afterwards is rounded once. */
const ARITHMETIC: Record<string, Binary> = {
  add: (a, b) => oddSum(a, b),
  sub: (a, b) => oddSum(a, -b),
  mul: (a, b) => a * b,
  fma: (a, b, c) => oddSum(a * b, c),
  mad: (a, b, c) => oddSum(a * b, c),
  // Float32 has more than twice the digits, so that this is one rounding.
  div: (a, b) => a / b,
  min,
  max,
  minNan: (a, b) => Math.min(a, b),
  maxNan: (a, b) => Math.max(a, b),
};

export function arithmetic16(op: string, name: 'f16' | 'bf16', a: number, b: number, c: number): number {
  const result = ARITHMETIC[op](decode16(name, a), decode16(name, b), decode16(name, c));
  return encodeFloat(name, result);
}

export function arithmeticPair(op: string, name: 'f16' | 'bf16', a: number, b: number, c: number): number {
  const low = arithmetic16(op, name, a & 0xffff, b & 0xffff, c & 0xffff);
  const high = arithmetic16(op, name, a >>> 16, b >>> 16, c >>> 16);
  return low | (high << 16);
}

/** f32 arithmetic, rounded to nearest. */
function arithmetic32(op: string, a: number, b: number, c: number): number {
  return op === 'fma' || op === 'mad'
    ? fmaF32(a, b, c)
    : Math.fround(op === 'add' ? a + b : op === 'sub' ? a - b : ARITHMETIC[op](a, b, c));
}

function pack64(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function low32(bits: bigint): number {
  return Number(bits & 0xffffffffn) | 0;
}

function high32(bits: bigint): number {
  return Number((bits >> 32n) & 0xffffffffn) | 0;
}

function arithmeticLong(op: string, a: bigint, b: bigint, c: bigint): bigint {
  const half = (x: bigint, high: boolean): number => f32FromBits(high ? high32(x) : low32(x));
  const of = (high: boolean): number => f32Bits(arithmetic32(op, half(a, high), half(b, high), half(c, high)));
  return pack64(of(false), of(true));
}

/** An integer of any size as float32, rounded once. */
function integerToF32(value: bigint | number, rounding: Rounding): number {
  return roundF32(toOdd(value), rounding);
}

/** An integer as float64 that keeps whether it was exact in its last bit. */
function toOdd(value: bigint | number): number {
  if (typeof value === 'number') return value;
  const near = Number(value);
  const rest = value - BigInt(near);
  return rest === 0n ? near : oddSum(near, Number(rest));
}

function integerToFloat(name: SmallFloat, value: bigint | number, rounding: Rounding): number {
  return encodeFloat(name, toOdd(value), rounding);
}

function toFloat(name: SmallFloat, value: number, rounding: Rounding, saturate: boolean, relu: boolean): number {
  return encodeFloat(name, relu && value < 0 ? 0 : value, rounding, saturate);
}

function toTf32(value: number, rounding: Rounding, saturate: boolean, relu: boolean): number {
  return roundTf32(relu && value < 0 ? 0 : value, rounding, saturate);
}

/** `.sat`: between 0 and 1, NaN is 0. */
function saturateUnit(value: number): number {
  return value > 0 ? Math.min(value, 1) : 0;
}

/** `cvt.rzi.s32.f32`, the conversion that kernels do most. */
function toI32(value: number): number {
  if (value !== value) return 0;
  return value >= 2147483647 ? 2147483647 : value <= -2147483648 ? -2147483648 : Math.trunc(value) | 0;
}

function toInt(value: number, rounding: Rounding, bits: number, signed: boolean, fromF64: boolean): number {
  return Number(toInteger(value, rounding, bits, signed, fromF64));
}

function clamp(value: bigint | number, bits: number, signed: boolean): bigint {
  const least = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const most = (1n << BigInt(signed ? bits - 1 : bits)) - 1n;
  const whole = BigInt(value);
  return whole < least ? least : whole > most ? most : whole;
}

/** PTX `prmt.b32` in its default mode. */
function prmt(a: number, b: number, selector: number): number {
  let result = 0;
  for (let i = 0; i < 4; i++) {
    const pick = (selector >>> (4 * i)) & 15;
    let byte = ((pick & 4 ? b : a) >>> (8 * (pick & 3))) & 255;
    if (pick & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

/** Any function of three bits, in every bit: bit (4a + 2b + c) of `lut`. */
function lop3(a: number, b: number, c: number, lut: number): number {
  let result = 0;
  for (let i = 0; i < 8; i++) {
    if (!((lut >>> i) & 1)) continue;
    result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return result;
}

function shf(low: number, high: number, count: number, left: boolean, wrapped: boolean): number {
  const n = BigInt(wrapped ? count & 31 : Math.min(count >>> 0, 32));
  const both = pack64(low, high);
  return left ? high32(BigInt.asUintN(64, both << n)) >>> 0 : low32(both >> n) >>> 0;
}

/** PTX `bfe`: a field of bits, with the sign of its highest bit for signed types. */
function bfe(value: bigint, start: number, length: number, bits: number, signed: boolean): bigint {
  const [from, count] = [start & 255, length & 255];
  const raw = BigInt.asUintN(bits, value);
  if (count === 0) return 0n;
  const top = Math.min(from + count - 1, bits - 1);
  const sign = signed && (raw >> BigInt(top)) & 1n ? -1n : 0n;
  if (from >= bits) return sign;
  const kept = Math.min(count, bits - from);
  const field = (raw >> BigInt(from)) & ((1n << BigInt(kept)) - 1n);
  return sign === 0n ? field : field | (-1n << BigInt(kept));
}

function bfi(field: bigint, base: bigint, start: number, length: number, bits: number): bigint {
  const from = BigInt(start & 255);
  const count = BigInt(length & 255);
  const mask = BigInt.asUintN(bits, ((1n << count) - 1n) << from);
  return (BigInt.asUintN(bits, base) & ~mask) | (BigInt.asUintN(bits, field << from) & mask);
}

function popc(bits: number): number {
  let count = 0;
  for (let rest = bits >>> 0; rest !== 0; rest &= rest - 1) count++;
  return count;
}

function brev(bits: number): number {
  let result = 0;
  for (let i = 0; i < 32; i++) if ((bits >>> i) & 1) result |= 1 << (31 - i);
  return result;
}

/** Sum of products of four bytes; `signs` of the two sides. */
function dp4a(a: number, b: number, c: number, signedA: boolean, signedB: boolean): number {
  let sum = c;
  for (let i = 0; i < 4; i++) {
    const [x, y] = [(a >>> (8 * i)) & 255, (b >>> (8 * i)) & 255];
    sum += (signedA ? (x << 24) >> 24 : x) * (signedB ? (y << 24) >> 24 : y);
  }
  return sum | 0;
}

/** Integer division; by zero all bits are set, as on the GPU. */
function divide(a: bigint, b: bigint): bigint {
  return b === 0n ? -1n : a / b;
}

function remainder(a: bigint, b: bigint): bigint {
  return b === 0n ? a : a % b;
}

/** A matrix descriptor's address field moved by bytes; it has 14 bits and carries on as the hardware's addition does. */
function moveDescriptor(bits: bigint, bytes: number): bigint {
  return BigInt.asUintN(64, bits + BigInt(bytes >> 4));
}

function f64Bits(value: number): bigint {
  f64[0] = value;
  return longs[0];
}

function f64FromBits(bits: bigint): number {
  longs[0] = bits;
  return f64[0];
}

/** Two f16 of a pair of 8-bit floats. */
function widenPair(name: 'e4m3' | 'e5m2', bits: number, relu: boolean): number {
  const half = (byte: number): number => toFloat('f16', decodeFloat(name, byte), 'rn', false, relu);
  return half(bits & 255) | (half((bits >>> 8) & 255) << 16);
}

function negate(name: SmallFloat, bits: number): number {
  return bits ^ (1 << (FLOAT_FORMATS[name].fraction + FLOAT_FORMATS[name].exponent));
}

export const HELPERS: Readonly<Record<string, unknown>> = {
  fround: Math.fround,
  fma: fmaF32,
  fmaF64,
  f32Bits,
  f32FromBits,
  f64Bits,
  f64FromBits,
  f16: f16ToF32,
  bf16: bf16ToF32,
  toBf16: f32ToBf16,
  decode: decodeFloat,
  toFloat,
  toTf32,
  roundF32,
  saturateUnit,
  integerToF32,
  integerToFloat,
  toI32,
  toInt,
  toInteger,
  clamp,
  approx,
  flush,
  min,
  max,
  arithmetic16,
  arithmeticPair,
  arithmeticLong,
  decode16,
  pack64,
  low32,
  high32,
  prmt,
  lop3,
  shf,
  bfe,
  bfi,
  popc,
  brev,
  dp4a,
  divide,
  remainder,
  moveDescriptor,
  widenPair,
  negate,
};
