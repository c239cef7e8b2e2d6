import { joinElements, splitElements } from './bytes.ts';
import { arrayClass, numericArray, type ArrayOf, type DataType, type NumericType } from './datatype.ts';

/** A tensor in row-major order. */
export interface Tensor<D extends DataType = DataType> {
  readonly datatype: D;
  readonly shape: readonly number[];
  readonly data: ArrayOf[D];
}

/** What `tensor` takes as elements. */
export type ElementsOf<D extends DataType> = D extends 'BYTES' ? readonly (string | Uint8Array)[] : ArrayOf[D];

/**
 * A tensor of elements that are not copied.
 * @param data a typed array that suits the type; of BYTES strings, which become UTF-8, or bytes
 * @throws TypeError for an array of another type, RangeError where the shape has another number of elements
 */
export function tensor<D extends DataType>(datatype: D, shape: readonly number[], data: ElementsOf<D>): Tensor<D> {
  const elements = shape.reduce((count, dim) => count * dim, 1);
  if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    throw new RangeError(`[${shape.join(',')}] is no shape`);
  if (data.length !== elements) {
    throw new RangeError(`the shape [${shape.join(',')}] has ${elements} elements, the data ${data.length}`);
  }
  if (datatype === 'BYTES') {
    if (!Array.isArray(data)) throw new TypeError('elements of BYTES are an array of strings or of bytes');
    return { datatype, shape, data: data.map(elementOf) as unknown as ArrayOf[D] };
  }
  const expected = arrayClass(datatype);
  if (!(data instanceof expected)) throw new TypeError(`elements of ${datatype} are a ${expected.name}`);
  return { datatype, shape, data: data as unknown as ArrayOf[D] };
}

/** A BYTES tensor of texts, in one dimension unless a shape says otherwise. */
export function texts(values: readonly string[], shape: readonly number[] = [values.length]): Tensor<'BYTES'> {
  return tensor('BYTES', shape, values);
}

/** A tensor's bytes as they travel: of numbers a view, of BYTES a copy with the lengths. */
export function toBytes({ datatype, data }: Tensor): Uint8Array {
  if (datatype === 'BYTES') return joinElements(data as ArrayOf['BYTES']);
  const { buffer, byteOffset, byteLength } = data as ArrayOf[NumericType];
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/**
 * A tensor of bytes that came.
 * @throws RangeError where they do not fit the type or the shape
 */
export function fromBytes(datatype: DataType, shape: readonly number[], bytes: Uint8Array): Tensor {
  const data = datatype === 'BYTES' ? splitElements(bytes) : numericArray(datatype, bytes);
  const elements = shape.reduce((count, dim) => count * dim, 1);
  if (data.length === elements) return { datatype, shape, data };
  throw new RangeError(`the shape [${shape.join(',')}] has ${elements} elements, the data ${data.length}`);
}

const encoder = new TextEncoder();

function elementOf(element: string | Uint8Array): Uint8Array {
  return typeof element === 'string' ? encoder.encode(element) : element;
}
