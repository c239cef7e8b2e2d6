/** Types whose elements have a fixed size. */
export type ElementType = 'BOOL' | `${'' | 'U'}INT${8 | 16 | 32 | 64}` | 'FP16' | 'FP32' | 'FP64' | 'BF16';

/** What all classes of typed arrays have in common. */
export interface TypedArrayClass {
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TypedArray;
}

/** What all typed arrays have in common. */
export interface TypedArray extends ArrayBufferView {
  /** From one of the same class. */
  set(elements: never, offset: number): void;
}

/** The arrays that hold them. */
export const TYPED_ARRAYS: Readonly<Record<ElementType, TypedArrayClass>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Float16Array,
  FP32: Float32Array,
  FP64: Float64Array,
  BF16: Uint16Array,
};

export function isElementType(datatype: string): datatype is ElementType {
  return Object.hasOwn(TYPED_ARRAYS, datatype);
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, dim) => count * dim, 1);
}
