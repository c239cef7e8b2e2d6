/** What holds a tensor's elements, by the protocol's name of their type. */
export interface ArrayOf {
  /** 0 or 1. */
  readonly BOOL: Uint8Array;
  readonly UINT8: Uint8Array;
  readonly UINT16: Uint16Array;
  readonly UINT32: Uint32Array;
  readonly UINT64: BigUint64Array;
  readonly INT8: Int8Array;
  readonly INT16: Int16Array;
  readonly INT32: Int32Array;
  readonly INT64: BigInt64Array;
  /** Bits of IEEE 754's binary16. */
  readonly FP16: Uint16Array;
  /** The upper halves of float32's bits. */
  readonly BF16: Uint16Array;
  readonly FP32: Float32Array;
  readonly FP64: Float64Array;
  /** Strings of bytes, often UTF-8. */
  readonly BYTES: readonly Uint8Array[];
}

/** The protocol's names of element types. */
export type DataType = keyof ArrayOf;
/** Types whose elements have a fixed size. */
export type NumericType = Exclude<DataType, 'BYTES'>;

type NumericArray = ArrayOf[NumericType];
type NumericArrayClass = {
  readonly BYTES_PER_ELEMENT: number;
  readonly name: string;
  new (buffer: ArrayBufferLike, offset: number, length: number): NumericArray;
};

const CLASSES: Readonly<Record<NumericType, NumericArrayClass>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  BF16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

export function isDataType(name: string): name is DataType {
  return name === 'BYTES' || Object.hasOwn(CLASSES, name);
}

/** The class of arrays that hold elements of a type. */
export function arrayClass(datatype: NumericType): NumericArrayClass {
  return CLASSES[datatype];
}

/**
 * Elements as an array: a view of the bytes where their place in memory suits the type, else a copy.
 * @throws RangeError where the bytes are no whole number of elements
 */
export function numericArray<D extends NumericType>(datatype: D, bytes: Uint8Array): ArrayOf[D] {
  const type = CLASSES[datatype];
  const size = type.BYTES_PER_ELEMENT;
  if (bytes.length % size !== 0) throw new RangeError(`${bytes.length} bytes are no whole number of ${datatype}`);
  // (A Buffer's own `slice` would not copy.)
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new type(aligned.buffer, aligned.byteOffset, bytes.length / size) as ArrayOf[D];
}
