import { create } from '@bufbuild/protobuf';
import { isDataType } from '../datatype.ts';
import { InferenceError } from '../errors.ts';
import {
  isShared,
  requestParameters,
  sharedMemoryParameters,
  type InferRequest,
  type ParameterValue,
  type RequestedOutput,
} from '../request.ts';
import { InferResponse, type OutputTensor } from '../response.ts';
import { fromBytes, toBytes } from '../tensor.ts';
import {
  InferParameterSchema,
  ModelInferRequestSchema,
  type InferParameter,
  type ModelInferRequest,
  type ModelInferResponse,
} from './proto/inference_pb.js';

/** Integers of this size and above have a field of their own. */
const INT64_LIMIT = 2n ** 63n;

export function toMessage(
  model: string,
  request: InferRequest,
  more: Readonly<Record<string, ParameterValue>> = {},
): ModelInferRequest {
  const raw: Uint8Array[] = [];
  const inputs = Object.entries(request.inputs).map(([name, input]) => {
    const { datatype } = input;
    const shape = input.shape.map(BigInt);
    if (isShared(input))
      return { name, datatype, shape, parameters: choices(sharedMemoryParameters(input.sharedMemory)) };
    raw.push(toBytes(input));
    return { name, datatype, shape };
  });
  return create(ModelInferRequestSchema, {
    modelName: model,
    modelVersion: String(request.version ?? ''),
    id: request.id ?? '',
    parameters: choices({ ...requestParameters(request), ...more }),
    inputs,
    outputs: (request.outputs ?? []).map(outputMessage),
    rawInputContents: raw as Uint8Array<ArrayBuffer>[],
  });
}

/** @throws InferenceError `protocol` */
export function fromMessage(message: ModelInferResponse): InferResponse {
  let next = 0;
  const outputs = message.outputs.map((output): OutputTensor => {
    const { name, datatype } = output;
    if (!isDataType(datatype)) throw wrong(name, `has the unknown type ${datatype}`);
    const shape = output.shape.map(Number);
    const parameters = values(output.parameters);
    const shared = parameters['shared_memory_region'] !== undefined;
    // A server may have an empty entry for an output in shared memory, or none.
    const all = message.rawOutputContents.length === message.outputs.length;
    const bytes = shared && !all ? undefined : message.rawOutputContents[next++];
    if (shared) return { name, datatype, shape, parameters, data: undefined };
    if (bytes === undefined) throw wrong(name, 'has no elements');
    try {
      // Not a Buffer, whose methods differ.
      const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      return { name, datatype, shape, parameters, data: fromBytes(datatype, shape, view).data };
    } catch (error) {
      throw wrong(name, `does not fit its type ${datatype}: ${(error as Error).message}`);
    }
  });
  const { modelName: model, modelVersion: version, id } = message;
  return new InferResponse({ model, version, id, parameters: values(message.parameters), outputs });
}

function outputMessage(output: string | RequestedOutput): {
  name: string;
  parameters?: Record<string, InferParameter>;
} {
  if (typeof output === 'string') return { name: output };
  const { name, classification, sharedMemory } = output;
  const parameters = choices({
    ...(sharedMemory && sharedMemoryParameters(sharedMemory)),
    ...(classification !== undefined && { classification }),
  });
  return { name, parameters };
}

function choices(parameters: Readonly<Record<string, ParameterValue>>): Record<string, InferParameter> {
  return Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, choiceOf(value)]));
}

function choiceOf(value: ParameterValue): InferParameter {
  if (typeof value === 'boolean')
    return create(InferParameterSchema, { parameterChoice: { case: 'boolParam', value } });
  if (typeof value === 'string')
    return create(InferParameterSchema, { parameterChoice: { case: 'stringParam', value } });
  if (typeof value === 'number' && !Number.isInteger(value)) {
    return create(InferParameterSchema, { parameterChoice: { case: 'doubleParam', value } });
  }
  const whole = BigInt(value);
  const parameterChoice =
    whole < INT64_LIMIT
      ? ({ case: 'int64Param', value: whole } as const)
      : ({ case: 'uint64Param', value: whole } as const);
  return create(InferParameterSchema, { parameterChoice });
}

/** Integers that a double does not hold exactly stay bigints. */
function values(parameters: Readonly<Record<string, InferParameter>>): Record<string, ParameterValue> {
  return Object.fromEntries(
    Object.entries(parameters).flatMap(
      ([
        name,
        {
          parameterChoice: { value },
        },
      ]) => {
        if (value === undefined) return [];
        return [[name, typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value]];
      },
    ),
  );
}

function wrong(name: string, problem: string): InferenceError {
  return new InferenceError('protocol', `output '${name}' of the answer ${problem}`);
}
