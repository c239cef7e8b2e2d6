import { create } from '@bufbuild/protobuf';
import {
  InferParameterSchema,
  ModelInferResponse_InferOutputTensorSchema,
  ModelInferResponseSchema,
  type ModelInferResponse,
} from './proto/inference_pb.js';
import type { TritonModel } from '../triton/model.ts';
import { byName, tensorToBytes, type Tensor } from '../triton/tensor.ts';

/**
 * The outputs that were asked for, in that order, as far as the model made them. Clients read tensors from
 * `raw_output_contents` alone.
 */
export function inferResponse(
  model: TritonModel,
  { id, outputs }: { readonly id: string; readonly outputs: readonly string[] | undefined },
  tensors: readonly Tensor[],
): ModelInferResponse {
  const made = byName(tensors);
  const wanted = (outputs ?? [...made.keys()]).flatMap((name) => made.get(name) ?? []);
  return create(ModelInferResponseSchema, {
    modelName: model.name,
    modelVersion: '1',
    id,
    outputs: wanted.map(({ name, datatype, shape }) =>
      create(ModelInferResponse_InferOutputTensorSchema, { name, datatype, shape: shape.map(BigInt) }),
    ),
    rawOutputContents: wanted.map((tensor) => tensorToBytes(tensor) as Uint8Array<ArrayBuffer>),
  });
}

/** In a stream every response says whether it is its request's last. */
export function markFinal(response: ModelInferResponse, final: boolean): ModelInferResponse {
  response.parameters.triton_final_response = create(InferParameterSchema, {
    parameterChoice: { case: 'boolParam', value: final },
  });
  return response;
}
