import { create } from '@bufbuild/protobuf';
import {
  InferParameterSchema,
  ModelInferResponse_InferOutputTensorSchema,
  ModelInferResponseSchema,
  type InferParameter,
  type ModelInferResponse,
} from './proto/inference_pb.js';
import { classify } from '../triton/classify.ts';
import type { ModelResponse, ParameterValue, TritonModel } from '../triton/model.ts';
import { byName, tensorToBytes } from '../triton/tensor.ts';
import type { GrpcInferRequest } from './infer-request.ts';

/**
 * The outputs that were asked for, in that order, as far as the model made them. Clients read tensors from
 * `raw_output_contents` alone; what lies in shared memory has an empty place there.
 */
export function inferResponse(
  model: TritonModel,
  { id, outputs, classes, ranges }: Pick<GrpcInferRequest, 'id' | 'outputs' | 'classes' | 'ranges'>,
  response: ModelResponse,
): ModelInferResponse {
  const made = byName(response.outputs);
  const wanted = (outputs ?? [...made.keys()]).flatMap((name) => {
    const tensor = made.get(name);
    if (tensor === undefined) return [];
    const count = classes.get(name);
    return count === undefined ? tensor : classify(tensor, count, model);
  });
  return create(ModelInferResponseSchema, {
    modelName: model.name,
    modelVersion: model.version,
    id,
    parameters: Object.fromEntries(
      [...(response.parameters ?? [])].map(([name, value]) => [name, inferParameter(value)]),
    ),
    outputs: wanted.map(({ name, datatype, shape }) =>
      create(ModelInferResponse_InferOutputTensorSchema, { name, datatype, shape: shape.map(BigInt) }),
    ),
    rawOutputContents: wanted.map((tensor) => {
      const bytes = tensorToBytes(tensor) as Uint8Array<ArrayBuffer>;
      const range = ranges.get(tensor.name);
      if (range === undefined) return bytes;
      range.write(tensor.name, bytes);
      return new Uint8Array();
    }),
  });
}

function inferParameter(value: ParameterValue): InferParameter {
  const choice = (): InferParameter['parameterChoice'] => {
    if (typeof value === 'boolean') return { case: 'boolParam', value };
    if (typeof value === 'string') return { case: 'stringParam', value };
    if (typeof value === 'number' && !Number.isSafeInteger(value)) return { case: 'doubleParam', value };
    const exact = BigInt(value);
    return exact < 2n ** 63n ? { case: 'int64Param', value: exact } : { case: 'uint64Param', value: exact };
  };
  return create(InferParameterSchema, { parameterChoice: choice() });
}

/** In a stream every response says whether it is its request's last. */
export function markFinal(response: ModelInferResponse, final: boolean): ModelInferResponse {
  response.parameters.triton_final_response = create(InferParameterSchema, {
    parameterChoice: { case: 'boolParam', value: final },
  });
  return response;
}
