import { invalid } from './errors.ts';
import type { InferRequest } from './infer-request.ts';
import type { TritonModel } from './model.ts';
import { printElements, tensorToBytes, type Tensor } from './tensor.ts';

export interface InferResponse {
  readonly body: Buffer;
  /** Length of the JSON in front of the raw tensors; undefined: there are none. */
  readonly headerLength: number | undefined;
}

/** The reply of `/infer`: JSON, and behind it the outputs that the client wants as bytes. */
export function inferResponse(model: TritonModel, request: InferRequest, tensors: readonly Tensor[]): InferResponse {
  const wanted = request.outputs ?? tensors.map(({ name }) => ({ name, binary: request.parameters.binaryOutput }));
  const raw: Uint8Array[] = [];
  const outputs = wanted.map(({ name, binary }) => {
    const tensor = tensors.find((candidate) => candidate.name === name);
    if (tensor === undefined) throw invalid(`unexpected inference output '${name}' for model '${model.name}'`);
    const head = `"name":${JSON.stringify(name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape.join(',')}]`;
    if (!binary) return `{${head},"data":[${printElements(tensor).join(',')}]}`;
    const bytes = tensorToBytes(tensor);
    raw.push(bytes);
    return `{${head},"parameters":{"binary_data_size":${bytes.length}}}`;
  });
  const id = request.id === '' ? '' : `"id":${JSON.stringify(request.id)},`;
  const json = Buffer.from(
    `{${id}"model_name":${JSON.stringify(model.name)},"model_version":"1","outputs":[${outputs.join(',')}]}`,
  );
  if (raw.length === 0) return { body: json, headerLength: undefined };
  return { body: Buffer.concat([json, ...raw]), headerLength: json.length };
}

/** One reply of `/generate`: the outputs as members, one element as a scalar, with keys in alphabetical order. */
export function generateResponse(model: TritonModel, id: string, tensors: readonly Tensor[]): string {
  const members: [string, string][] = tensors.map((tensor) => {
    const elements = printElements(tensor);
    return [tensor.name, elements.length === 1 ? elements[0] : `[${elements.join(',')}]`];
  });
  members.push(['model_name', JSON.stringify(model.name)], ['model_version', '"1"']);
  if (id !== '') members.push(['id', JSON.stringify(id)]);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}
