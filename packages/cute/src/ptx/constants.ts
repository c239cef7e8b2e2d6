import { KernelError } from '../ir/error.ts';
import type { Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { encodeFloat } from '../types/numeric.ts';

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
    case 'bf16':
      return BigInt(encodeFloat(type, x));
    case 'e4m3':
    case 'e5m2':
      return BigInt(encodeFloat(type, x, 'rn', true));
    default:
      throw new RangeError(`${type} is no type of floats`);
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
