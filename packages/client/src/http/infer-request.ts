import { isShared, requestParameters, sharedMemoryParameters, type InferRequest } from '../request.ts';
import type { RequestedOutput } from '../request.ts';
import { toBytes } from '../tensor.ts';
import { printJson, type Json } from './json.ts';

/** Tensors begin at multiples of this, so that the server can look at them where they lie. */
const ALIGNMENT = 8;

export interface InferBody {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of JSON in front of the tensors. */
  readonly headerLength: number;
}

/** The body of `/infer`: JSON, then each input's bytes. */
export function inferBody(request: InferRequest): InferBody {
  const parts: Uint8Array[] = [];
  const inputs = Object.entries(request.inputs).map(([name, input]): Json => {
    const { datatype, shape } = input;
    if (isShared(input)) return { name, datatype, shape, parameters: sharedMemoryParameters(input.sharedMemory) };
    const bytes = toBytes(input);
    parts.push(bytes);
    return { name, datatype, shape, parameters: { binary_data_size: bytes.length } };
  });
  const parameters: Record<string, Json> = requestParameters(request);
  // It counts only where no outputs are named.
  if (request.outputs === undefined) parameters['binary_data_output'] = true;
  const json = printJson({
    id: request.id === '' ? undefined : request.id,
    parameters: Object.keys(parameters).length > 0 ? parameters : undefined,
    inputs,
    outputs: request.outputs?.map(outputJson),
  });
  const header = new TextEncoder().encode(json);
  const headerLength = Math.ceil(header.length / ALIGNMENT) * ALIGNMENT;
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, headerLength));
  bytes.set(header);
  bytes.fill(0x20, header.length, headerLength);
  let at = headerLength;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { bytes, headerLength };
}

function outputJson(output: string | RequestedOutput): Json {
  if (typeof output === 'string') return { name: output, parameters: { binary_data: true } };
  const { name, classification, sharedMemory } = output;
  return {
    name,
    parameters: {
      ...(sharedMemory === undefined ? { binary_data: true } : sharedMemoryParameters(sharedMemory)),
      ...(classification !== undefined && { classification }),
    },
  };
}
