/**
 * The types of the IR: what a register or an element in memory holds. They are named by strings, so that the IR can be
 * printed, parsed and compared without objects that must be the same.
 *
 * Registers of 8-bit floats and integers exist only to be loaded, stored, converted and bitcast. Packed types (`bf16x2`)
 * are one 32-bit register whose low half is element 0. `b*` are bits without a meaning.
 */

/** `p`: predicate, `f`: float, `i`/`u`: signed and unsigned, `b`: bits, `v`: packed pair or quad, `a`: address. */
export type TypeKind = 'p' | 'f' | 'i' | 'u' | 'b' | 'v' | 'a';

export interface TypeInfo {
  readonly kind: TypeKind;
  /** Bits in memory and, from 16 up, in a register; 1 for predicates. */
  readonly bits: number;
  /** For packed types: the element type and how many there are. */
  readonly element?: TypeName;
  readonly lanes?: number;
}

/** Names of the types; TYPES says what each is. */
export type TypeName =
  | 'pred'
  | 'i8'
  | 'u8'
  | 'i16'
  | 'u16'
  | 'i32'
  | 'u32'
  | 'i64'
  | 'u64'
  | 'f16'
  | 'bf16'
  | 'f32'
  | 'f64'
  | 'tf32'
  | 'e4m3'
  | 'e5m2'
  | 'b8'
  | 'b16'
  | 'b32'
  | 'b64'
  | 'b128'
  | 'f16x2'
  | 'bf16x2'
  | 'f32x2'
  | 'e4m3x2'
  | 'e5m2x2'
  | 'e4m3x4'
  | 'e5m2x4'
  | 'ptr.global'
  | 'ptr.generic'
  | 'ptr.shared'
  | 'ptr.cluster'
  | 'ptr.tmem';

/** Every type. */
export const TYPES: Readonly<Record<TypeName, TypeInfo>> = Object.freeze({
  pred: { kind: 'p', bits: 1 },
  i8: { kind: 'i', bits: 8 },
  u8: { kind: 'u', bits: 8 },
  i16: { kind: 'i', bits: 16 },
  u16: { kind: 'u', bits: 16 },
  i32: { kind: 'i', bits: 32 },
  u32: { kind: 'u', bits: 32 },
  i64: { kind: 'i', bits: 64 },
  u64: { kind: 'u', bits: 64 },
  f16: { kind: 'f', bits: 16 },
  bf16: { kind: 'f', bits: 16 },
  f32: { kind: 'f', bits: 32 },
  f64: { kind: 'f', bits: 64 },
  /** A float32 of which the tensor cores read the upper 19 bits. */
  tf32: { kind: 'f', bits: 32 },
  /** OCP 8-bit floats: e4m3 without infinities (largest 448), e5m2 with them (largest 57344). */
  e4m3: { kind: 'f', bits: 8 },
  e5m2: { kind: 'f', bits: 8 },
  b8: { kind: 'b', bits: 8 },
  b16: { kind: 'b', bits: 16 },
  b32: { kind: 'b', bits: 32 },
  b64: { kind: 'b', bits: 64 },
  b128: { kind: 'b', bits: 128 },
  f16x2: { kind: 'v', bits: 32, element: 'f16', lanes: 2 },
  bf16x2: { kind: 'v', bits: 32, element: 'bf16', lanes: 2 },
  f32x2: { kind: 'v', bits: 64, element: 'f32', lanes: 2 },
  e4m3x2: { kind: 'v', bits: 16, element: 'e4m3', lanes: 2 },
  e5m2x2: { kind: 'v', bits: 16, element: 'e5m2', lanes: 2 },
  e4m3x4: { kind: 'v', bits: 32, element: 'e4m3', lanes: 4 },
  e5m2x4: { kind: 'v', bits: 32, element: 'e5m2', lanes: 4 },
  /** Addresses: global and generic ones have 64 bits, those of shared memory (own CTA, cluster) and tensor memory 32. */
  'ptr.global': { kind: 'a', bits: 64 },
  'ptr.generic': { kind: 'a', bits: 64 },
  'ptr.shared': { kind: 'a', bits: 32 },
  'ptr.cluster': { kind: 'a', bits: 32 },
  'ptr.tmem': { kind: 'a', bits: 32 },
});

export function isType(name: string): name is TypeName {
  return Object.hasOwn(TYPES, name);
}

/** Bits of one element in memory. */
export function bitsOf(type: TypeName): number {
  return TYPES[type].bits;
}

export function isFloat(type: TypeName): boolean {
  return TYPES[type].kind === 'f';
}

/** Signed or unsigned whole numbers. */
export function isInteger(type: TypeName): boolean {
  return TYPES[type].kind === 'i' || TYPES[type].kind === 'u';
}

export function isAddress(type: TypeName): boolean {
  return TYPES[type].kind === 'a';
}
