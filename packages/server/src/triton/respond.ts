import { classify } from './classify.ts';
import type { InferRequest, RequestedOutput } from './infer-request.ts';
import type { ModelResponse, ParameterValue, TritonModel } from './model.ts';
import { printElements, tensorToBytes } from './tensor.ts';

export interface InferResponse {
  readonly json: string;
  /** In bytes. */
  readonly jsonLength: number;
  /** Tensors that follow it. */
  readonly raw: readonly Uint8Array[];
  /** Length of the JSON where raw tensors follow; undefined: none do. */
  readonly headerLength: number | undefined;
}

/**
 * The reply of `/infer`: JSON, and behind it the outputs that the client wants as bytes. What it wants in shared memory is
 * written there.
 */
export function inferResponse(model: TritonModel, request: InferRequest, response: ModelResponse): InferResponse {
  const tensors = response.outputs;
  const { binaryOutput } = request.parameters;
  const wanted: readonly RequestedOutput[] =
    request.outputs ?? tensors.map(({ name }) => ({ name, binary: binaryOutput, classes: 0, range: undefined }));
  const raw: Uint8Array[] = [];
  let outputs = '';
  for (const { name, binary, classes, range } of wanted) {
    const made = tensors.find((candidate) => candidate.name === name);
    // A declared output that this request does not have, as in the other protocol.
    if (made === undefined) continue;
    const tensor = classes > 0 ? classify(made, classes, model) : made;
    outputs += `${outputs === '' ? '' : ','}{"name":${JSON.stringify(name)},"datatype":"${tensor.datatype}",`;
    outputs += `"shape":[${tensor.shape.join(',')}]`;
    if (range !== undefined) {
      range.write(name, tensorToBytes(tensor));
      outputs += '}';
    } else if (binary) {
      const bytes = tensorToBytes(tensor);
      raw.push(bytes);
      outputs += `,"parameters":{"binary_data_size":${bytes.length}}}`;
    } else outputs += `,"data":[${printElements(tensor).join(',')}]}`;
  }
  const id = request.id === '' ? '' : `"id":${JSON.stringify(request.id)},`;
  const { name, version } = model;
  const json = `{${id}"model_name":${JSON.stringify(name)},"model_version":"${version}",${printParameters(response)}"outputs":[${outputs}]}`;
  const jsonLength = Buffer.byteLength(json);
  return { json, jsonLength, raw, headerLength: raw.length === 0 ? undefined : jsonLength };
}

/** One reply of `/generate`: the outputs as members, one element as a scalar, with keys in alphabetical order. */
export function generateResponse(
  model: TritonModel,
  id: string,
  { outputs, parameters = new Map() }: ModelResponse,
): string {
  const members: [string, string][] = outputs.map((tensor) => {
    const elements = printElements(tensor);
    return [tensor.name, elements.length === 1 ? elements[0] : `[${elements.join(',')}]`];
  });
  for (const [name, value] of parameters) members.push([name, printParameter(value)]);
  members.push(['model_name', JSON.stringify(model.name)], ['model_version', `"${model.version}"`]);
  if (id !== '') members.push(['id', JSON.stringify(id)]);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}

function printParameters({ parameters }: ModelResponse): string {
  if (parameters === undefined || parameters.size === 0) return '';
  const members = [...parameters].map(([name, value]) => `${JSON.stringify(name)}:${printParameter(value)}`);
  return `"parameters":{${members.join(',')}},`;
}

/** A parameter as JSON; 64-bit integers stay exact. */
function printParameter(value: ParameterValue): string {
  return typeof value === 'bigint' || typeof value === 'number' ? String(value) : JSON.stringify(value);
}
