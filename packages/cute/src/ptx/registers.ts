import { TYPES, type TypeName } from '../types/dtype.ts';

/** Registers by width: `p` predicate, `h` 16 bits (8-bit values too), `r` 32, `d` 64, `q` 128. */
export type RegisterClass = 'p' | 'h' | 'r' | 'd' | 'q';

export const REGISTER_TYPES: Readonly<Record<RegisterClass, string>> = {
  p: 'pred',
  h: 'b16',
  r: 'b32',
  d: 'b64',
  q: 'b128',
};

/**
 * The register that holds a value. Registers are untyped bits: PTX takes a `.b32` register wherever 32 bits of any
 * type are due, so that a bitcast costs no instruction and no name. 8-bit values live in the lower half of 16 bits;
 * the upper half is undefined, and whoever reads it extends first.
 */
export function classOf(type: TypeName): RegisterClass {
  const bits = TYPES[type].bits;
  if (bits === 1) return 'p';
  if (bits <= 16) return 'h';
  if (bits === 32) return 'r';
  return bits === 64 ? 'd' : 'q';
}

const SUFFIXES: Readonly<Partial<Record<TypeName, string>>> = {
  i8: 's8',
  i16: 's16',
  i32: 's32',
  i64: 's64',
  tf32: 'f32',
  e4m3: 'b8',
  e5m2: 'b8',
  'ptr.global': 'u64',
  'ptr.generic': 'u64',
  'ptr.shared': 'u32',
  'ptr.cluster': 'u32',
  'ptr.tmem': 'u32',
};

/** The type as PTX arithmetic spells it: `s32` for i32, `bf16x2`, `u64` for addresses. */
export function suffixOf(type: TypeName): string {
  return SUFFIXES[type] ?? type;
}

/** The type as PTX spells it where only the width counts: `b32`, `pred`. */
export function bitsSuffix(type: TypeName): string {
  const bits = TYPES[type].bits;
  return bits === 1 ? 'pred' : `b${bits < 16 ? 16 : bits}`;
}
