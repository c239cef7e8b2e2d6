import { KernelError } from '../ir/error.ts';
import type { Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';

const BUFFER = new DataView(new ArrayBuffer(8));

/** The number that a `const` node holds; for 64-bit integers a bigint. */
export function constantOf(value: Value): number | bigint {
  const given = value.node.attributes.value;
  const kind = TYPES[value.type].kind;
  if (typeof given === 'boolean') return given ? 1 : 0;
  if (typeof given === 'number') {
    if (kind === 'f' || Number.isInteger(given)) return given;
  } else if (typeof given === 'string') {
    if (kind !== 'f' && /^-?\d+$/.test(given)) return BigInt(given);
    if (kind === 'f') {
      if (given === 'nan') return Number.NaN;
      if (given === 'inf') return Number.POSITIVE_INFINITY;
      if (given === '-inf') return Number.NEGATIVE_INFINITY;
      if (given === '-0') return -0;
    }
  }
  throw new KernelError(`const: ${JSON.stringify(given)} is no constant of type ${value.type}`, value.node.position);
}

/** The bits of a `const` node's value, rounded to its type to nearest even. */
export function constantBits(value: Value): bigint {
  return bitsOfNumber(constantOf(value), value.type);
}

/** The bits of a number in a type; floats round to nearest even, integers wrap. */
export function bitsOfNumber(number: number | bigint, type: TypeName): bigint {
  const { kind, bits } = TYPES[type];
  if (kind !== 'f') return BigInt.asUintN(bits, BigInt(number));
  const x = Number(number);
  switch (type) {
    case 'f64':
      BUFFER.setFloat64(0, x);
      return BUFFER.getBigUint64(0);
    case 'f32':
    case 'tf32':
      return BigInt(float32Bits(x));
    case 'f16':
      return BigInt(smallFloat(x, 5, 10, false));
    case 'bf16':
      return BigInt(smallFloat(x, 8, 7, false));
    case 'e5m2':
      return BigInt(smallFloat(x, 5, 2, true));
    default:
      return BigInt(e4m3Bits(x));
  }
}

/** A constant as PTX writes it inside an instruction, or nothing where it needs a register. */
export function immediate(value: Value): string | undefined {
  const { kind, bits } = TYPES[value.type];
  if (kind === 'p' || bits < 16 || bits > 64) return undefined;
  const number = constantOf(value);
  if (value.type === 'f64') return `0d${bitsOfNumber(number, 'f64').toString(16).padStart(16, '0')}`;
  if (value.type === 'f32' || value.type === 'tf32')
    return `0f${float32Bits(Number(number)).toString(16).padStart(8, '0')}`;
  if (kind === 'f') return undefined;
  if (kind === 'v') return `0x${bitsOfNumber(number, value.type).toString(16)}`;
  return String(kind === 'i' ? BigInt.asIntN(bits, BigInt(number)) : BigInt.asUintN(bits, BigInt(number)));
}

function float32Bits(x: number): number {
  BUFFER.setFloat32(0, x);
  return BUFFER.getUint32(0);
}

/** IEEE-like format with an implicit one, rounded once to nearest even from float64. */
function smallFloat(x: number, exponentBits: number, fractionBits: number, saturate: boolean): number {
  const sign = (x < 0 || Object.is(x, -0) ? 1 : 0) << (exponentBits + fractionBits);
  const infinity = ((1 << exponentBits) - 1) << fractionBits;
  if (Number.isNaN(x)) return infinity | (1 << (fractionBits - 1));
  const code = magnitude(Math.abs(x), exponentBits, fractionBits);
  return sign | (code < infinity ? code : saturate ? infinity - 1 : infinity);
}

/** OCP e4m3: no infinities, the largest is 448 and takes all that is larger; 0x7f is NaN. */
function e4m3Bits(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  return (x < 0 || Object.is(x, -0) ? 0x80 : 0) | Math.min(magnitude(Math.abs(x), 4, 3), 0x7e);
}

/** Exponent and fraction of a non-negative number; beyond the largest exponent the code just grows. */
function magnitude(x: number, exponentBits: number, fractionBits: number): number {
  const bias = (1 << (exponentBits - 1)) - 1;
  if (x === Number.POSITIVE_INFINITY) return ((1 << exponentBits) - 1) << fractionBits;
  if (x === 0) return 0;
  BUFFER.setFloat64(0, x);
  const exponent = Math.max((BUFFER.getUint16(0) >> 4) - 1023, 1 - bias);
  // Scaling by a power of two is exact; the rounding is this one.
  const scaled = roundToEven(x * 2 ** (fractionBits - exponent));
  const code = scaled + (exponent + bias - 1) * 2 ** fractionBits;
  return Math.min(code, ((1 << exponentBits) - 1) << fractionBits);
}

function roundToEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest > 0.5 || (rest === 0.5 && below % 2 === 1)) return below + 1;
  return below;
}
