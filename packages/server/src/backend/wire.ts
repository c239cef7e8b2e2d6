import { joinBytes, splitBytes } from '../triton/bytes.ts';
import type { Tensor } from '../triton/tensor.ts';
import type { DataType, Tensor as TypedTensor } from './api.ts';
import { isElementType, TYPED_ARRAYS } from './elements.ts';

/** A tensor between threads. */
export interface WireTensor {
  readonly name: string;
  readonly datatype: DataType;
  readonly shape: readonly number[];
  /** Elements at a place that their type allows; BYTES as in a binary request: each with its length in front. */
  readonly data: Uint8Array;
}

/** From here on tensors are handed over in shared memory; smaller ones are copied with their message, which is faster. */
const SHARED_BYTES = 16 * 1024;

/** A tensor of a request, for another thread: moved to an aligned place unless it lies in shared memory already. */
export function toWire(tensor: Tensor): WireTensor {
  const { name, datatype, shape } = tensor;
  const bytes = tensor.datatype === 'BYTES' ? joinBytes(tensor.data) : tensor.data;
  return { name, datatype, shape, data: handOver(bytes, sizeOf(datatype)) };
}

/** A tensor that a model made. */
export function typedToWire(name: string, tensor: TypedTensor): WireTensor {
  const { datatype, shape } = tensor;
  if (datatype === 'BYTES') return toWire({ name, datatype, shape, data: tensor.data });
  const { buffer, byteOffset, byteLength } = tensor.data;
  return { name, datatype, shape, data: handOver(new Uint8Array(buffer, byteOffset, byteLength), 1) };
}

/** A tensor for a model: its array is a view of what came. */
export function fromWire({ datatype, shape, data }: WireTensor): TypedTensor {
  const { buffer, byteOffset, byteLength } = data;
  if (!isElementType(datatype)) return { datatype, shape, data: splitBytes(data, incomplete) };
  const type = TYPED_ARRAYS[datatype];
  return {
    datatype,
    shape,
    data: new type(buffer, byteOffset, byteLength / type.BYTES_PER_ELEMENT),
  } as unknown as TypedTensor;
}

function sizeOf(datatype: DataType): number {
  return isElementType(datatype) ? TYPED_ARRAYS[datatype].BYTES_PER_ELEMENT : 1;
}

function handOver(bytes: Uint8Array, alignment: number): Uint8Array {
  if (bytes.buffer instanceof SharedArrayBuffer && bytes.byteOffset % alignment === 0) return bytes;
  const { length } = bytes;
  const copy: Uint8Array = new Uint8Array(
    length < SHARED_BYTES ? new ArrayBuffer(length) : new SharedArrayBuffer(length),
  );
  copy.set(bytes);
  return copy;
}

/** Bytes were checked where they came in. */
function incomplete(): never {
  throw new Error('a tensor of BYTES was cut off between two threads');
}
