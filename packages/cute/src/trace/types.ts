import { bitsOf, type TypeName } from '../types/dtype.ts';
import { convert } from './convert.ts';
import { tracing } from './state.ts';
import { tensorSpec, type Dim, type TensorOptions, type TensorSpec } from './spec.ts';

declare const BRAND: unique symbol;

/** A number whose type TypeScript knows. The brand is optional, so that arithmetic and constants still check. */
export type Scalar<K extends TypeName> = K extends 'pred' ? boolean : number & { readonly [BRAND]?: K };

export type f64 = Scalar<'f64'>;
export type f32 = Scalar<'f32'>;
export type f16 = Scalar<'f16'>;
export type bf16 = Scalar<'bf16'>;
export type e4m3 = Scalar<'e4m3'>;
export type e5m2 = Scalar<'e5m2'>;
export type i8 = Scalar<'i8'>;
export type i16 = Scalar<'i16'>;
export type i32 = Scalar<'i32'>;
export type i64 = Scalar<'i64'>;
export type u8 = Scalar<'u8'>;
export type u16 = Scalar<'u16'>;
export type u32 = Scalar<'u32'>;
export type u64 = Scalar<'u64'>;
export type pred = boolean;

/** A type as a value: `f32(x)` converts, `f32.tensor('M', 'N')` is a parameter, `f32` alone a parameter that is a number. */
export interface ScalarType<K extends TypeName> {
  (value: number | bigint | boolean): Scalar<K>;
  readonly type: K;
  readonly bits: number;
  /** A tensor in global memory: extents that are numbers, or names of what a launch tells; row-major unless said otherwise. */
  tensor(...shape: Dim[]): TensorSpec<K>;
  tensor(shape: readonly Dim[], options: TensorOptions): TensorSpec<K>;
}

function scalarType<K extends TypeName>(type: K): ScalarType<K> {
  const token = (value: unknown): unknown => {
    if (tracing()) return convert(value, type);
    return type === 'f32' && typeof value === 'number' ? Math.fround(value) : value;
  };
  const tensor = (...shape: unknown[]): TensorSpec<K> =>
    Array.isArray(shape[0])
      ? tensorSpec(type, shape[0] as Dim[], shape[1] as TensorOptions)
      : tensorSpec(type, shape as Dim[], {});
  Object.defineProperty(token, 'name', { value: type });
  return Object.assign(token, { type, bits: bitsOf(type), tensor }) as unknown as ScalarType<K>;
}

export const f64: ScalarType<'f64'> = scalarType('f64');
export const f32: ScalarType<'f32'> = scalarType('f32');
export const f16: ScalarType<'f16'> = scalarType('f16');
export const bf16: ScalarType<'bf16'> = scalarType('bf16');
export const e4m3: ScalarType<'e4m3'> = scalarType('e4m3');
export const e5m2: ScalarType<'e5m2'> = scalarType('e5m2');
export const i8: ScalarType<'i8'> = scalarType('i8');
export const i16: ScalarType<'i16'> = scalarType('i16');
export const i32: ScalarType<'i32'> = scalarType('i32');
export const i64: ScalarType<'i64'> = scalarType('i64');
export const u8: ScalarType<'u8'> = scalarType('u8');
export const u16: ScalarType<'u16'> = scalarType('u16');
export const u32: ScalarType<'u32'> = scalarType('u32');
export const u64: ScalarType<'u64'> = scalarType('u64');
export const b8: ScalarType<'b8'> = scalarType('b8');
export const b32: ScalarType<'b32'> = scalarType('b32');
export const b64: ScalarType<'b64'> = scalarType('b64');
export const pred: ScalarType<'pred'> = scalarType('pred');

/** The types by their names. */
export const TYPE_TOKENS: {
  readonly [
    K in
      | 'f64'
      | 'f32'
      | 'f16'
      | 'bf16'
      | 'e4m3'
      | 'e5m2'
      | 'i8'
      | 'i16'
      | 'i32'
      | 'i64'
      | 'u8'
      | 'u16'
      | 'u32'
      | 'u64'
      | 'pred'
  ]: ScalarType<K>;
} = { f64, f32, f16, bf16, e4m3, e5m2, i8, i16, i32, i64, u8, u16, u32, u64, pred };

export function typeNameOf<K extends TypeName>(type: ScalarType<K> | K): K {
  return typeof type === 'string' ? type : type.type;
}

export function isScalarType(value: unknown): value is ScalarType<TypeName> {
  return typeof value === 'function' && 'tensor' in value && 'bits' in value;
}
