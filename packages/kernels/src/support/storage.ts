import {
  bitsOf,
  decodeFloat,
  encodeFloat,
  FLOAT_FORMATS,
  isFloat,
  TYPES,
  type SmallFloat,
  type TypeName,
} from '@rose/cute';

/** Tensors as bytes and as float64, and how far apart the numbers of a type lie. */

type Float = SmallFloat | 'f32' | 'f64';

/** Bits of the fraction that are stored, and the exponent of the smallest normal number. */
const WIDE = { f32: { fraction: 23, lowest: -126 }, f64: { fraction: 52, lowest: -1022 } } as const;

function isSmall(type: TypeName): type is SmallFloat {
  return Object.hasOwn(FLOAT_FORMATS, type);
}

/** Half the distance of neighbouring numbers of the type around `value`: the largest error of one rounding. 0 for integers. */
export function halfUlp(type: TypeName, value: number): number {
  if (!isSmall(type) && type !== 'f32' && type !== 'f64') return 0;
  const { fraction, lowest } = formatOf(type);
  const exponent = value === 0 ? lowest : Math.max(lowest, exponentOf(Math.abs(value)));
  return 2 ** (exponent - fraction - 1);
}

function formatOf(type: Float): { readonly fraction: number; readonly lowest: number } {
  return isSmall(type) ? FLOAT_FORMATS[type] : WIDE[type];
}

/** `value` rounded to the nearest number of the type, ties to even, as the kernels convert. Integers must be in range. */
export function round(type: TypeName, value: number): number {
  if (isSmall(type)) return decodeFloat(type, encodeFloat(type, value, 'rn', saturates(type)));
  return type === 'f32' ? Math.fround(value) : value;
}

/** 8-bit floats saturate, as PTX converts to them. */
function saturates(type: SmallFloat): boolean {
  return FLOAT_FORMATS[type].fraction + FLOAT_FORMATS[type].exponent === 7;
}

/** Bytes that `count` elements take. */
export function bytesOf(type: TypeName, count: number): number {
  return (count * Math.max(8, bitsOf(type))) / 8;
}

/** Numbers as the type's bytes, little-endian, each rounded to nearest even. Throws TypeError for packed types. */
export function encode(type: TypeName, values: Float64Array): Uint8Array {
  const bytes = new Uint8Array(bytesOf(type, values.length));
  const view = new DataView(bytes.buffer);
  const write = WRITERS[type];
  if (!write) throw new TypeError(`tensors of ${type} have no values of their own here`);
  const step = bytesOf(type, 1);
  for (let i = 0; i < values.length; i++) write(view, i * step, values[i]);
  return bytes;
}

/** The numbers in the type's bytes. */
export function decode(type: TypeName, bytes: Uint8Array): Float64Array {
  const read = READERS[type];
  if (!read) throw new TypeError(`tensors of ${type} have no values of their own here`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const step = bytesOf(type, 1);
  return Float64Array.from({ length: bytes.length / step }, (_, i) => read(view, i * step));
}

type Write = (view: DataView, at: number, value: number) => void;
type Read = (view: DataView, at: number) => number;

const small =
  (type: SmallFloat): Write =>
  (view, at, value) => {
    const bits = encodeFloat(type, value, 'rn', saturates(type));
    if (bytesOf(type, 1) === 1) view.setUint8(at, bits);
    else view.setUint16(at, bits, true);
  };

const fromSmall =
  (type: SmallFloat): Read =>
  (view, at) =>
    decodeFloat(type, bytesOf(type, 1) === 1 ? view.getUint8(at) : view.getUint16(at, true));

const WRITERS: Readonly<Partial<Record<TypeName, Write>>> = {
  f64: (view, at, value) => view.setFloat64(at, value, true),
  f32: (view, at, value) => view.setFloat32(at, value, true),
  bf16: small('bf16'),
  f16: small('f16'),
  e4m3: small('e4m3'),
  e5m2: small('e5m2'),
  i8: (view, at, value) => view.setInt8(at, value),
  u8: (view, at, value) => view.setUint8(at, value),
  i16: (view, at, value) => view.setInt16(at, value, true),
  u16: (view, at, value) => view.setUint16(at, value, true),
  i32: (view, at, value) => view.setInt32(at, value, true),
  u32: (view, at, value) => view.setUint32(at, value, true),
  i64: (view, at, value) => view.setBigInt64(at, BigInt(value), true),
  u64: (view, at, value) => view.setBigUint64(at, BigInt(value), true),
};

const READERS: Readonly<Partial<Record<TypeName, Read>>> = {
  f64: (view, at) => view.getFloat64(at, true),
  f32: (view, at) => view.getFloat32(at, true),
  bf16: fromSmall('bf16'),
  f16: fromSmall('f16'),
  e4m3: fromSmall('e4m3'),
  e5m2: fromSmall('e5m2'),
  i8: (view, at) => view.getInt8(at),
  u8: (view, at) => view.getUint8(at),
  i16: (view, at) => view.getInt16(at, true),
  u16: (view, at) => view.getUint16(at, true),
  i32: (view, at) => view.getInt32(at, true),
  u32: (view, at) => view.getUint32(at, true),
  i64: (view, at) => Number(view.getBigInt64(at, true)),
  u64: (view, at) => Number(view.getBigUint64(at, true)),
};

/** Whether tensors of the type can be made, compared and printed. */
export function isStorable(type: TypeName): boolean {
  return type in WRITERS && (isFloat(type) || TYPES[type].kind !== 'v');
}

/** floor(log2(value)) of a positive number, exactly. */
function exponentOf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  if (2 ** exponent > value) return exponent - 1;
  return 2 ** (exponent + 1) <= value ? exponent + 1 : exponent;
}
