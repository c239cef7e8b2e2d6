import type { JsonValue } from './json.ts';
import { invalid, malformed } from './errors.ts';

/** How elements of a fixed size are laid out. Everything is little-endian. */
interface Element {
  /** Bytes. */
  readonly size: number;
  readonly read: (view: DataView, offset: number) => number | bigint | boolean;
  /** Write a JSON value. Throws a message about a value of the wrong type or out of range. */
  readonly write: (view: DataView, offset: number, value: JsonValue) => void;
  /** Text of an element in JSON. */
  readonly print: (view: DataView, offset: number) => string;
}

/** Triton's names of element types. An element of `BYTES` is a string of bytes. */
export type DataType = NumericType | 'BYTES';
export type NumericType = 'BOOL' | `${'' | 'U'}INT${8 | 16 | 32 | 64}` | 'FP16' | 'BF16' | 'FP32' | 'FP64';

const ELEMENTS: Readonly<Record<NumericType, Element>> = {
  BOOL: {
    size: 1,
    read: (view, at) => view.getUint8(at) !== 0,
    write: (view, at, value) => view.setUint8(at, Number(asBoolean(value))),
    print: (view, at) => String(view.getUint8(at) !== 0),
  },
  UINT8: integer(1, false, (view, at) => view.getUint8(at)),
  UINT16: integer(2, false, (view, at) => view.getUint16(at, true)),
  UINT32: integer(4, false, (view, at) => view.getUint32(at, true)),
  UINT64: integer(8, false, (view, at) => view.getBigUint64(at, true)),
  INT8: integer(1, true, (view, at) => view.getInt8(at)),
  INT16: integer(2, true, (view, at) => view.getInt16(at, true)),
  INT32: integer(4, true, (view, at) => view.getInt32(at, true)),
  INT64: integer(8, true, (view, at) => view.getBigInt64(at, true)),
  FP16: binaryOnly('FP16', (view, at) => view.getFloat16(at, true)),
  BF16: binaryOnly('BF16', bfloat16),
  FP32: {
    size: 4,
    read: (view, at) => view.getFloat32(at, true),
    write: (view, at, value) => view.setFloat32(at, asDouble(value), true),
    print: (view, at) => printDouble(view.getFloat32(at, true)),
  },
  FP64: {
    size: 8,
    read: (view, at) => view.getFloat64(at, true),
    write: (view, at, value) => view.setFloat64(at, asDouble(value), true),
    print: (view, at) => printDouble(view.getFloat64(at, true)),
  },
};

export function isDataType(name: string): name is DataType {
  return name === 'BYTES' || Object.hasOwn(ELEMENTS, name);
}

export function elementOf(datatype: NumericType): Element {
  return ELEMENTS[datatype];
}

/** The name of a type in a model configuration. */
export function configType(datatype: DataType): string {
  return datatype === 'BYTES' ? 'TYPE_STRING' : `TYPE_${datatype}`;
}

/** A double as Triton prints it: always recognisable as one, and whatever it is. */
export function printDouble(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

function integer(size: 1 | 2 | 4 | 8, signed: boolean, read: (view: DataView, at: number) => number | bigint): Element {
  const bits = BigInt(8 * size);
  const least = signed ? -(2n ** (bits - 1n)) : 0n;
  const most = signed ? 2n ** (bits - 1n) - 1n : 2n ** bits - 1n;
  const kind = signed ? 'signed-integer' : 'unsigned-integer';
  return {
    size,
    read,
    write(view, at, value) {
      const isInteger = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
      if (!isInteger || (!signed && value < 0)) throw malformed(`attempt to access JSON non-${kind} as ${kind}`);
      if (value < least || value > most) throw invalid(`${value} does not fit into ${signed ? '' : 'U'}INT${bits}`);
      if (size === 1) view.setUint8(at, Number(value));
      else if (size === 2) view.setUint16(at, Number(value), true);
      else if (size === 4) view.setUint32(at, Number(value), true);
      else view.setBigUint64(at, BigInt(value), true);
    },
    print: (view, at) => String(read(view, at)),
  };
}

/** Half-precision types travel as bytes only. */
function binaryOnly(name: string, read: Element['read']): Element {
  const refuse = (direction: string, side: string): never => {
    const advice = `Please use the binary data format for ${side}`;
    throw invalid(`${direction} ${name} data via JSON is not supported. ${advice}`);
  };
  return { size: 2, read, write: () => refuse('receiving', 'input'), print: () => refuse('sending', 'output') };
}

/** A bfloat16 is the upper half of a float32. */
function bfloat16(view: DataView, at: number): number {
  const wide = new DataView(new ArrayBuffer(4));
  wide.setUint32(0, view.getUint16(at, true) << 16);
  return wide.getFloat32(0);
}

function asBoolean(value: JsonValue): boolean {
  if (typeof value !== 'boolean') throw malformed('attempt to access JSON non-boolean as boolean');
  return value;
}

function asDouble(value: JsonValue): number {
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw malformed('attempt to access JSON non-number as double');
  }
  return Number(value);
}
