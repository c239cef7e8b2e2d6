import { invalid } from './errors.ts';
import type { InputSpec, ModelRequest } from './model.ts';
import { numbersOf, type NumericTensor } from './tensor.ts';

/** Inputs of one batch; the engine queues each as a request of its own. */
export const MAX_BATCH = 256;

/** Token ids instead of texts. Padding is cut off by the mask; it must stand at the end. */
export const ID_INPUTS: readonly InputSpec[] = [
  { name: 'INPUT_IDS', datatypes: ['INT64', 'INT32'], dims: [-1], optional: true },
  { name: 'ATTENTION_MASK', datatypes: ['INT64', 'INT32'], dims: [-1], optional: true },
];

/** Rows of token ids, and of token types where the request has them. */
export function tokenRows({ inputs }: ModelRequest): { tokens: number[]; types: number[] | undefined }[] {
  const ids = inputs.get('INPUT_IDS') as NumericTensor;
  const mask = inputs.get('ATTENTION_MASK') as NumericTensor | undefined;
  const types = inputs.get('TOKEN_TYPE_IDS') as NumericTensor | undefined;
  const [batch, width] = ids.shape;
  for (const other of [mask, types]) {
    if (other !== undefined && other.shape[1] !== width) {
      throw invalid(`${other.name} has rows of ${other.shape[1]} elements, INPUT_IDS of ${width}`);
    }
  }
  const tokens = numbersOf(ids);
  // The engine's ids have 32 bits: a larger one would turn into another.
  const large = tokens.find((id) => id !== (id | 0));
  if (large !== undefined) throw invalid(`INPUT_IDS holds ${large}, which is no token id`);
  const maskValues = mask && numbersOf(mask);
  const typeValues = types && numbersOf(types);
  return Array.from({ length: batch }, (_, row) => {
    const start = row * width;
    const end = start + (maskValues === undefined ? width : unmasked(maskValues, start, width, row));
    return { tokens: tokens.slice(start, end), types: typeValues?.slice(start, end) };
  });
}

/** How many tokens of a row count. */
function unmasked(mask: readonly number[], start: number, width: number, row: number): number {
  let length = 0;
  while (length < width && mask[start + length] !== 0) length++;
  for (let i = length; i < width; i++) {
    if (mask[start + i] === 0) continue;
    throw invalid(`row ${row} of ATTENTION_MASK is not ones followed by zeros: padding must stand at the end`);
  }
  return length;
}

/** Refuse parameters that the model does not take: a misspelt one would otherwise have no effect. */
export function checkParameters(model: string, request: ModelRequest, known: readonly string[]): void {
  for (const name of request.parameters.keys()) {
    if (!known.includes(name)) {
      throw invalid(`unexpected parameter '${name}' for model '${model}': it takes ${known.join(', ')}`);
    }
  }
}

export function booleanParameter(request: ModelRequest, name: string): boolean | undefined {
  const value = request.parameters.get(name);
  if (value !== undefined && typeof value !== 'boolean') throw invalid(`parameter '${name}' must be a boolean`);
  return value;
}
