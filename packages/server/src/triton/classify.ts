import { elementOf, type NumericType } from './datatype.ts';
import { invalid } from './errors.ts';
import type { ModelSignature } from './model.ts';
import { elementCount, type BytesTensor, type Tensor } from './tensor.ts';

/** Triton's own limit: sorting what is larger would hold up everybody else. */
const MOST_ELEMENTS = 1_000_000;

/** Element types that have no order, or that Triton does not read here. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['BYTES', 'BOOL', 'FP16', 'BF16']);

/**
 * The classification extension: of each row of an output [batch, ...] (or of all of it, where the model has no batch
 * dimension) the largest elements, as texts `VALUE:INDEX` or `VALUE:INDEX:LABEL` in descending order.
 * @param classes how many; fewer where a row has fewer elements
 * @returns a tensor [batch, classes] or [classes]
 * @throws TritonError 400 where the output's type has no classes
 */
export function classify(tensor: Tensor, classes: number, model: ModelSignature): BytesTensor {
  const { name, datatype, shape } = tensor;
  if (datatype === 'BYTES' || UNSUPPORTED.has(datatype)) {
    throw invalid(`class result not available for output due to unsupported type '${datatype}'`);
  }
  const batch = model.maxBatchSize > 0 ? shape.slice(0, 1) : [];
  const width = elementCount(shape.slice(batch.length));
  if (width > MOST_ELEMENTS) throw invalid('classification output tensor too large');
  const labels = model.outputs.find((output) => output.name === name)?.labels ?? [];
  const { size, read } = elementOf(datatype);
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  const data: Uint8Array[] = [];
  for (let row = 0; row < (batch[0] ?? 1); row++) {
    const values = Array.from({ length: width }, (_, i) => read(view, (row * width + i) * size) as number | bigint);
    for (const index of largest(values).slice(0, classes)) {
      const label = labels[index] ? `:${labels[index]}` : '';
      data.push(Buffer.from(`${printValue(values[index], datatype)}:${index}${label}`));
    }
  }
  return { name, datatype: 'BYTES', shape: [...batch, Math.min(classes, width)], data };
}

/** Indices in descending order of their values; equal ones in their own order, and what is no number last. */
function largest(values: readonly (number | bigint)[]): number[] {
  const isNumber = (index: number): boolean => !Number.isNaN(values[index]);
  return [...values.keys()].sort((a, b) => {
    if (values[a] > values[b]) return -1;
    if (values[a] < values[b]) return 1;
    return isNumber(a) === isNumber(b) ? a - b : isNumber(a) ? -1 : 1;
  });
}

/** As C prints it: `%d`, or `%f` with six decimals. */
function printValue(value: number | bigint, datatype: NumericType): string {
  if (!datatype.startsWith('FP')) return String(value);
  const real = Number(value);
  if (Number.isNaN(real)) return 'nan';
  if (!Number.isFinite(real)) return real > 0 ? 'inf' : '-inf';
  // From there on a double is an integer, and `toFixed` changes its notation.
  if (Math.abs(real) >= 1e21) return `${BigInt(real)}.000000`;
  const sign = real < 0 || Object.is(real, -0) ? '-' : '';
  return sign + sixDecimals(Math.abs(real));
}

/** Of two decimals that are equally near, C takes the even one and `toFixed` the larger. Odd multiples of 1/128 have two. */
function sixDecimals(value: number): string {
  const seven = value.toFixed(7);
  const tie = Number.isInteger(value * 128) && seven.endsWith('5');
  return tie && Number(seven.at(-2)) % 2 === 0 ? seven.slice(0, -1) : value.toFixed(6);
}
