import { joinBytes, splitBytes } from './bytes.ts';
import { elementOf, type DataType, type NumericType } from './datatype.ts';
import { invalid, malformed } from './errors.ts';
import type { JsonValue } from './json.ts';

/** A tensor in row-major order. */
export type Tensor = NumericTensor | BytesTensor;

export interface NumericTensor {
  readonly name: string;
  readonly datatype: NumericType;
  readonly shape: readonly number[];
  /** Elements, little-endian; not aligned. */
  readonly data: Uint8Array;
}

export interface BytesTensor {
  readonly name: string;
  readonly datatype: 'BYTES';
  readonly shape: readonly number[];
  readonly data: readonly Uint8Array[];
}

export function byName(tensors: readonly Tensor[]): ReadonlyMap<string, Tensor> {
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

/** Arrays inside the `data` of an input may nest this deep. */
const DEEPEST = 100;

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, dim) => count * dim, 1);
}

/** The product of whole numbers for messages: as a double it would be rounded. */
export function printProduct(factors: readonly number[]): string {
  return String(factors.reduce((product, factor) => product * BigInt(factor), 1n));
}

/** A configuration that asks for a larger tensor is a mistake. */
const MOST_BYTES = 2 ** 31;
/** What an empty text takes in memory, about. */
const TEXT_BYTES = 64;

/**
 * Bytes of a tensor that a configuration describes; an element of BYTES is an empty text, its length of four bytes.
 * @param what the tensor is, for messages
 */
export function configuredBytes(datatype: DataType, shape: readonly number[], what: string): number {
  const elements = elementCount(shape);
  const size = datatype === 'BYTES' ? TEXT_BYTES : elementOf(datatype).size;
  if (elements * size <= MOST_BYTES) return elements * (datatype === 'BYTES' ? 4 : size);
  throw invalid(`${what} of shape ${printShape(shape)} has more than ${MOST_BYTES} bytes`);
}

/** Dimensions that a message prints. */
const MOST_DIMENSIONS = 64;

/** `[1,16]`, as messages print shapes. */
export function printShape(shape: readonly number[]): string {
  const more = shape.length > MOST_DIMENSIONS ? ',...' : '';
  return `[${shape.slice(0, MOST_DIMENSIONS).join(',')}${more}]`;
}

/**
 * A tensor from the `data` of a JSON request, which may be flat or nested in any way: only the number of elements
 * counts.
 * @param maxBytes largest tensor; a small body could declare a huge one
 */
export function tensorFromJson(
  name: string,
  datatype: DataType,
  shape: readonly number[],
  value: JsonValue,
  maxBytes: number,
): Tensor {
  if (datatype === 'FP16' || datatype === 'BF16') {
    const advice = `Please use the binary data format for input ${name}`;
    throw invalid(`receiving ${datatype} data via JSON is not supported. ${advice}`);
  }
  const count = elementCount(shape);
  if (datatype === 'BYTES') {
    const data: Uint8Array[] = [];
    forEachElement(value, (element) => {
      if (typeof element !== 'string') {
        throw malformed('Unable to parse JSON bytes array: attempt to access JSON non-string as string');
      }
      data.push(Buffer.from(element));
    });
    return { name, datatype, shape, data };
  }
  const { size, write } = elementOf(datatype);
  if (count * size > maxBytes) {
    const sizes = `(${printProduct([...shape, size])} bytes) that exceeds the maximum allowed value of ${maxBytes} bytes`;
    const advice = 'Use --http-max-input-size to increase the limit.';
    throw invalid(`JSON input '${name}' has a byte_size ${sizes}. ${advice}`);
  }
  const data = new Uint8Array(count * size);
  const view = new DataView(data.buffer);
  let next = 0;
  forEachElement(value, (element) => {
    if (next === count) throw malformed("Unable to parse 'data': Shape does not match true shape of 'data' field");
    try {
      write(view, next * size, element);
    } catch (error) {
      if (error instanceof Error) error.message = `Unable to parse 'data': ${error.message}`;
      throw error;
    }
    next++;
  });
  if (next < count) throw malformed("Failed to parse 'data' field: shape does not match true shape");
  return { name, datatype, shape, data };
}

/**
 * A tensor from the bytes that follow a binary request's JSON. Each element of BYTES is a 4-byte little-endian length
 * and so many bytes.
 */
export function tensorFromBytes(
  name: string,
  datatype: DataType,
  shape: readonly number[],
  bytes: Uint8Array,
  model: string,
): Tensor {
  if (datatype !== 'BYTES') return { name, datatype, shape, data: bytes };
  const data = splitBytes(bytes, (elements) => {
    const place = `element ${elements} of inference input '${name}' for model '${model}'`;
    throw invalid(`incomplete string data: ${place} ends beyond the ${bytes.length} bytes of the input`);
  });
  return { name, datatype, shape, data };
}

/** Bytes of a tensor in a binary response. */
export function tensorToBytes(tensor: Tensor): Uint8Array {
  return tensor.datatype === 'BYTES' ? joinBytes(tensor.data) : tensor.data;
}

/** Elements of an output, or bytes of its texts, that are printed as JSON: more would take all of the server's memory. */
const MOST_PRINTED = 2 ** 24;
const MOST_PRINTED_BYTES = 2 ** 27;

/**
 * Each element as JSON.
 * @throws TritonError where the tensor is too large for that
 */
export function printElements(tensor: Tensor): string[] {
  checkPrintable(tensor);
  if (tensor.datatype === 'BYTES') return tensor.data.map((element) => JSON.stringify(textOf(element)));
  const { size, print } = elementOf(tensor.datatype);
  const view = viewOf(tensor);
  return Array.from({ length: tensor.data.length / size }, (_, i) => print(view, i * size));
}

function checkPrintable(tensor: Tensor): void {
  const { name, datatype, data } = tensor;
  const elements = datatype === 'BYTES' ? data.length : data.length / elementOf(datatype).size;
  const bytes = datatype === 'BYTES' ? data.reduce((sum, { length }) => sum + length, 0) : 0;
  if (elements <= MOST_PRINTED && bytes <= MOST_PRINTED_BYTES) return;
  const size = elements > MOST_PRINTED ? `${elements} elements, more than ${MOST_PRINTED}` : `${bytes} bytes of text`;
  throw invalid(`output '${name}' is too large for JSON, with ${size}: ask for it as binary data`);
}

/** A FP32 tensor of rows. */
export function fp32Rows(name: string, rows: readonly Float32Array[], width: number): NumericTensor {
  const data = new Uint8Array(rows.length * width * 4);
  const view = new DataView(data.buffer);
  rows.forEach((row, r) => row.forEach((value, i) => view.setFloat32((r * width + i) * 4, value, true)));
  return { name, datatype: 'FP32', shape: [rows.length, width], data };
}

/** A BYTES tensor of texts in one dimension. */
export function texts(name: string, values: readonly string[]): BytesTensor {
  return { name, datatype: 'BYTES', shape: [values.length], data: values.map((value) => Buffer.from(value)) };
}

/** A numeric tensor of one dimension. */
export function numbers(name: string, datatype: NumericType, values: readonly number[]): NumericTensor {
  const { size, write } = elementOf(datatype);
  const data = new Uint8Array(values.length * size);
  const view = new DataView(data.buffer);
  values.forEach((value, i) => write(view, i * size, value));
  return { name, datatype, shape: [values.length], data };
}

/** Elements of a numeric tensor as numbers; integers beyond 2^53 lose their last bits. */
export function numbersOf(tensor: NumericTensor): number[] {
  const { size, read } = elementOf(tensor.datatype);
  const view = viewOf(tensor);
  return Array.from({ length: tensor.data.length / size }, (_, i) => Number(read(view, i * size)));
}

/** Texts of a BYTES tensor. */
export function textsOf(tensor: BytesTensor): string[] {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return tensor.data.map((element, i) => {
    try {
      return decoder.decode(element);
    } catch {
      throw invalid(`element ${i} of inference input '${tensor.name}' is not UTF-8`);
    }
  });
}

function viewOf({ data }: NumericTensor): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function textOf(element: Uint8Array): string {
  return Buffer.from(element.buffer, element.byteOffset, element.byteLength).toString('utf8');
}

function forEachElement(value: JsonValue, visit: (element: JsonValue) => void, depth = 0): void {
  if (depth >= DEEPEST) throw invalid(`JSON nesting depth exceeds maximum allowed limit (${DEEPEST})`);
  if (!Array.isArray(value)) visit(value);
  else for (const element of value) forEachElement(element, visit, depth + 1);
}
