import { classify } from '../triton/classify.ts';
import type { ModelResponse, TritonModel } from '../triton/model.ts';
import { byName, tensorToBytes } from '../triton/tensor.ts';
import type { InferAnswer } from './encode-response.ts';
import type { GrpcInferRequest } from './infer-request.ts';

/**
 * The outputs that were asked for, in that order, as far as the model made them. Clients read tensors from
 * `raw_output_contents` alone; what lies in shared memory has an empty place there.
 */
export function inferResponse(
  model: TritonModel,
  { id, outputs, classes, ranges }: Pick<GrpcInferRequest, 'id' | 'outputs' | 'classes' | 'ranges'>,
  response: ModelResponse,
): InferAnswer {
  const made = byName(response.outputs);
  const wanted = (outputs ?? [...made.keys()]).flatMap((name) => {
    const tensor = made.get(name);
    if (tensor === undefined) return [];
    const count = classes.get(name);
    return count === undefined ? tensor : classify(tensor, count, model);
  });
  return {
    modelName: model.name,
    modelVersion: model.version,
    id,
    parameters: response.parameters ?? NONE,
    outputs: wanted,
    rawOutputContents: wanted.map((tensor) => {
      const bytes = tensorToBytes(tensor);
      const range = ranges.get(tensor.name);
      if (range === undefined) return bytes;
      range.write(tensor.name, bytes);
      return new Uint8Array();
    }),
  };
}

const NONE: InferAnswer['parameters'] = new Map();

/** A response without content. */
export function emptyResponse(id: string, modelName = '', modelVersion = ''): InferAnswer {
  return { id, modelName, modelVersion, parameters: NONE, outputs: [], rawOutputContents: [] };
}

/** In a stream every response says whether it is its request's last. */
export function markFinal(response: InferAnswer, final: boolean): InferAnswer {
  return { ...response, parameters: new Map([...response.parameters, ['triton_final_response', final]]) };
}
