import { TYPES, type TypeName } from '../types/dtype.ts';

/**
 * How a lane's value is held. In registers: a word (32 bits) or a long (64 bits; 128 bits are two of them) for each of 32
 * lanes. In generated code: a JavaScript number or bigint.
 *
 *     pred                      0 or 1
 *     i8 i16 i32                number, sign-extended
 *     u8 u16 u32, addresses     number, not negative
 *     f32 tf32 f64              number
 *     f16 bf16 e4m3 e5m2, b8 b16, pairs of 8 bits      their bits, not negative
 *     b32, packed 32 bits       their bits as a signed number
 *     i64 u64 b64 f32x2 b128    bigint; all but i64 not negative
 */
export type View =
  /** Words as float32, signed, unsigned. */
  | 'f'
  | 'n'
  | 'u'
  /** Longs as float64, signed, unsigned. */
  | 'd'
  | 'q'
  | 'Q';

const VIEWS: Partial<Record<TypeName, View>> = {
  f32: 'f',
  tf32: 'f',
  u32: 'u',
  'ptr.shared': 'u',
  'ptr.cluster': 'u',
  'ptr.tmem': 'u',
  f64: 'd',
  'ptr.global': 'd',
  'ptr.generic': 'd',
  i64: 'q',
  u64: 'Q',
  b64: 'Q',
  f32x2: 'Q',
  b128: 'Q',
};

export function viewOf(type: TypeName): View {
  return VIEWS[type] ?? 'n';
}

export function isLong(type: TypeName): boolean {
  return TYPES[type].bits >= 64;
}

/** Whether generated code holds it as a bigint. */
export function isBig(type: TypeName): boolean {
  const view = viewOf(type);
  return view === 'q' || view === 'Q';
}

/** An expression for integer arithmetic brought back into the type's range. */
export function wrap(type: TypeName, expression: string): string {
  switch (type) {
    case 'i8':
      return `(${expression}<<24>>24)`;
    case 'i16':
      return `(${expression}<<16>>16)`;
    case 'u8':
    case 'b8':
    case 'e4m3':
    case 'e5m2':
      return `(${expression}&255)`;
    case 'u16':
    case 'b16':
    case 'f16':
    case 'bf16':
    case 'e4m3x2':
    case 'e5m2x2':
      return `(${expression}&65535)`;
    case 'u32':
    case 'ptr.shared':
    case 'ptr.cluster':
    case 'ptr.tmem':
      return `(${expression}>>>0)`;
    case 'i64':
      return `BigInt.asIntN(64,${expression})`;
    case 'u64':
    case 'b64':
    case 'f32x2':
      return `BigInt.asUintN(64,${expression})`;
    case 'b128':
      return `BigInt.asUintN(128,${expression})`;
    case 'pred':
      return `(${expression}&1)`;
    default:
      return `(${expression}|0)`;
  }
}

/** An expression's bits: a number that `|0` makes the low bits of, or a bigint from 64 bits up. */
export function toBits(type: TypeName, expression: string): string {
  switch (type) {
    case 'f32':
    case 'tf32':
      return `H.f32Bits(${expression})`;
    case 'f64':
      return `H.f64Bits(${expression})`;
    case 'i64':
      return `BigInt.asUintN(64,${expression})`;
    case 'i8':
      return `(${expression}&255)`;
    case 'i16':
      return `(${expression}&65535)`;
    case 'ptr.global':
    case 'ptr.generic':
      return `BigInt(${expression})`;
    default:
      return expression;
  }
}

export function fromBits(type: TypeName, expression: string): string {
  switch (type) {
    case 'f32':
    case 'tf32':
      return `H.f32FromBits(${expression})`;
    case 'f64':
      return `H.f64FromBits(${expression})`;
    case 'ptr.global':
    case 'ptr.generic':
      return `Number(${expression})`;
    default:
      return wrap(type, expression);
  }
}
