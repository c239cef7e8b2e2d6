import { bitsOf, isFloat, TYPES, type TypeName } from '@rose/cute';

/** Tensors as bytes and as float64, and how far apart the numbers of a type lie. */

interface Format {
  /** Bits of the mantissa that are stored. */
  readonly mantissa: number;
  /** Exponent of the smallest normal number. */
  readonly lowest: number;
  /** Largest finite number. */
  readonly largest: number;
  /** Numbers beyond the largest become it. */
  readonly saturates: boolean;
}

const FORMATS: Readonly<Partial<Record<TypeName, Format>>> = {
  f64: { mantissa: 52, lowest: -1022, largest: Number.MAX_VALUE, saturates: false },
  f32: { mantissa: 23, lowest: -126, largest: (2 - 2 ** -23) * 2 ** 127, saturates: false },
  bf16: { mantissa: 7, lowest: -126, largest: (2 - 2 ** -7) * 2 ** 127, saturates: false },
  f16: { mantissa: 10, lowest: -14, largest: 65504, saturates: false },
  e4m3: { mantissa: 3, lowest: -6, largest: 448, saturates: true },
  e5m2: { mantissa: 2, lowest: -14, largest: 57344, saturates: true },
};

/** Half the distance of neighbouring numbers of the type around `value`: the largest error of one rounding. 0 for integers. */
export function halfUlp(type: TypeName, value: number): number {
  const format = FORMATS[type];
  if (!format) return 0;
  const exponent = value === 0 ? format.lowest : Math.max(format.lowest, exponentOf(Math.abs(value)));
  return 2 ** (exponent - format.mantissa - 1);
}

/** `value` rounded to the nearest number of the type, ties to even. Integers must be in range. */
export function round(type: TypeName, value: number): number {
  const format = FORMATS[type];
  if (!format) return value;
  if (type === 'f64' || Number.isNaN(value)) return value;
  if (type === 'f32') return Math.fround(value);
  const unit = 2 * halfUlp(type, value);
  const quotient = value / unit; // Exact: a power of two.
  const down = Math.floor(quotient);
  const rest = quotient - down;
  const whole = rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
  const rounded = whole * unit;
  if (Math.abs(rounded) <= format.largest) return rounded === 0 && Object.is(Math.sign(value), -0) ? -0 : rounded;
  return Math.sign(value) * (format.saturates ? format.largest : Infinity);
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
  for (let i = 0; i < values.length; i++) write(view, i * step, round(type, values[i]));
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

const word = new DataView(new ArrayBuffer(4));

const WRITERS: Readonly<Partial<Record<TypeName, Write>>> = {
  f64: (view, at, value) => view.setFloat64(at, value, true),
  f32: (view, at, value) => view.setFloat32(at, value, true),
  bf16: (view, at, value) => {
    word.setFloat32(0, value);
    view.setUint16(at, Number.isNaN(value) ? 0x7fff : word.getUint16(0), true);
  },
  f16: (view, at, value) => view.setFloat16(at, value, true),
  e4m3: (view, at, value) => view.setUint8(at, minifloat('e4m3', 7, value)),
  e5m2: (view, at, value) => view.setUint8(at, minifloat('e5m2', 15, value)),
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
  bf16: (view, at) => {
    word.setUint32(0, view.getUint16(at, true) << 16);
    return word.getFloat32(0);
  },
  f16: (view, at) => view.getFloat16(at, true),
  e4m3: (view, at) => fromMinifloat(view.getUint8(at), 3, 7, false),
  e5m2: (view, at) => fromMinifloat(view.getUint8(at), 2, 15, true),
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

function minifloat(type: 'e4m3' | 'e5m2', bias: number, value: number): number {
  if (Number.isNaN(value)) return 0x7f;
  const { mantissa, lowest } = FORMATS[type]!;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const size = Math.abs(value);
  if (size < 2 ** lowest) return sign | (size * 2 ** (mantissa - lowest));
  const exponent = exponentOf(size);
  return sign | ((exponent + bias) << mantissa) | ((size / 2 ** exponent - 1) * 2 ** mantissa);
}

/** `infinities`: the largest exponent means infinity and NaN, as IEEE has it; else only the largest number is NaN. */
function fromMinifloat(bits: number, mantissa: number, bias: number, infinities: boolean): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits & 0x7f) >> mantissa;
  const fraction = bits & ((1 << mantissa) - 1);
  if (infinities ? exponent === 31 : (bits & 0x7f) === 0x7f) return fraction === 0 ? sign * Infinity : NaN;
  return (
    sign *
    (exponent === 0 ? fraction * 2 ** (1 - bias - mantissa) : (1 + fraction / 2 ** mantissa) * 2 ** (exponent - bias))
  );
}

/** floor(log2(value)) of a positive number, exactly. */
function exponentOf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  if (2 ** exponent > value) return exponent - 1;
  return 2 ** (exponent + 1) <= value ? exponent + 1 : exponent;
}
