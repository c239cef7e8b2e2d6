import type { InferParameter, InferTensorContents, ModelInferRequest } from './proto/inference_pb.js';
import { elementOf, isDataType, type DataType, type NumericType } from '../triton/datatype.ts';
import { invalid } from '../triton/errors.ts';
import type { OutputRange, RegionUse } from '../shared-memory/regions.ts';
import { regionPlace } from './region-place.ts';
import type { JsonValue } from '../triton/json.ts';
import type { ModelSignature } from '../triton/model.ts';
import { takeParameters, type RequestParameters } from '../triton/parameters.ts';
import { tensorFromRegion } from '../triton/region-tensor.ts';
import { elementCount, tensorFromBytes, type Tensor } from '../triton/tensor.ts';

export interface GrpcInferRequest {
  readonly id: string;
  readonly inputs: readonly Tensor[];
  /** Undefined: all that the model makes. */
  readonly outputs: readonly string[] | undefined;
  /** Outputs of which the client wants so many largest elements of each row, as texts. */
  readonly classes: ReadonlyMap<string, number>;
  /** Outputs whose data goes to shared memory instead of into the response. */
  readonly ranges: ReadonlyMap<string, OutputRange>;
  readonly parameters: RequestParameters;
  /** A decoupled request's client wants to be told that no response follows, even by one without content. */
  readonly emptyFinalResponse: boolean;
}

/** The field of InferTensorContents that holds a datatype's elements. Half-precision types travel raw. */
const CONTENTS: Readonly<Partial<Record<DataType, ContentsField>>> = {
  BOOL: 'boolContents',
  INT8: 'intContents',
  INT16: 'intContents',
  INT32: 'intContents',
  INT64: 'int64Contents',
  UINT8: 'uintContents',
  UINT16: 'uintContents',
  UINT32: 'uintContents',
  UINT64: 'uint64Contents',
  FP32: 'fp32Contents',
  FP64: 'fp64Contents',
  BYTES: 'bytesContents',
};
type ContentsField = Exclude<keyof InferTensorContents, '$typeName' | '$unknown'>;

/**
 * Read a ModelInferRequest. Tensors are views of the message.
 * @param regions takes the regions of shared memory that the request names
 */
export function readInferRequest(
  message: ModelInferRequest,
  model: ModelSignature,
  regions: RegionUse,
): GrpcInferRequest {
  const places = message.inputs.map(({ name, parameters }) => regionPlace(name, parameters));
  const raw = message.rawInputContents;
  const sent = places.reduce((count, place) => count + (place === undefined ? 1 : 0), 0);
  if (raw.length > 0 && raw.length !== sent) {
    throw invalid(
      `expected ${sent} raw input contents, one for each input that is not in shared memory, got ${raw.length} for model '${model.name}'`,
    );
  }
  let nextRaw = 0;
  const inputs = message.inputs.map((input, i): Tensor => {
    const { name, datatype, contents } = input;
    if (!isDataType(datatype)) throw invalid(`invalid datatype for input ${name}`);
    const shape = input.shape.map((dim) => dimension(dim, name));
    const place = places[i];
    if (place !== undefined) {
      if (contents !== undefined) {
        const what = `input tensor '${name}' for model '${model.name}'`;
        throw invalid(`unexpected 'content' provided when using shared memory for ${what}`);
      }
      return tensorFromRegion(regions, place, { name, datatype, shape }, model.name);
    }
    if (raw.length === 0) return fromContents(name, datatype, shape, contents, model);
    if (contents !== undefined) {
      throw invalid(
        `contents field must not be specified when using raw_input_contents for '${name}' for model '${model.name}'`,
      );
    }
    return tensorFromBytes(name, datatype, shape, raw[nextRaw++], model.name);
  });
  const parameters = new Map(
    Object.entries(message.parameters).map(([name, parameter]) => [name, valueOf(name, parameter)]),
  );
  const emptyFinalResponse = parameters.get(EMPTY_FINAL);
  if (emptyFinalResponse !== undefined && typeof emptyFinalResponse !== 'boolean') {
    throw invalid(`parameter '${EMPTY_FINAL}' has invalid type. It should be 'bool'.`);
  }
  parameters.delete(EMPTY_FINAL);
  return {
    id: message.id,
    inputs,
    outputs: message.outputs.length === 0 ? undefined : message.outputs.map(({ name }) => name),
    ranges: new Map(message.outputs.flatMap((output) => readRange(output, regions))),
    classes: new Map(message.outputs.flatMap(readClasses)),
    parameters: takeParameters(parameters),
    emptyFinalResponse: emptyFinalResponse ?? false,
  };
}

const EMPTY_FINAL = 'triton_enable_empty_final_response';

function readRange(
  { name, parameters }: ModelInferRequest['outputs'][number],
  regions: RegionUse,
): [string, OutputRange][] {
  const place = regionPlace(name, parameters);
  if (place === undefined) return [];
  if (parameters.classification === undefined) return [[name, regions.output(place)]];
  throw invalid("output can't set both 'shared_memory_region' and 'classification'");
}

function readClasses({ name, parameters }: ModelInferRequest['outputs'][number]): [string, number][] {
  const choice = parameters.classification?.parameterChoice;
  if (choice === undefined) return [];
  if (choice.case !== 'int64Param') {
    throw invalid("invalid value type for 'classification' parameter, expected int64_param");
  }
  if (choice.value <= 0n) throw invalid("invalid value for 'classification' parameter, expected >= 0");
  return [[name, Number(choice.value)]];
}

function dimension(value: bigint, name: string): number {
  const dim = Number(value);
  if (dim < 0) throw invalid(`input '${name}' has the negative dimension ${value}`);
  if (Number.isSafeInteger(dim)) return dim;
  throw invalid(`input '${name}' causes total element count to exceed maximum size of ${Number.MAX_SAFE_INTEGER}`);
}

/** The fields that Triton's own parameters come in. */
const PARAMETER_FIELDS: ReadonlyMap<string, readonly InferParameter['parameterChoice']['case'][]> = new Map([
  ['sequence_id', ['int64Param', 'uint64Param', 'stringParam']],
  ['sequence_start', ['boolParam']],
  ['sequence_end', ['boolParam']],
  ['priority', ['int64Param', 'uint64Param']],
  ['timeout', ['int64Param', 'uint64Param']],
  ['binary_data_output', ['boolParam']],
]);

function valueOf(name: string, { parameterChoice }: InferParameter): JsonValue {
  const fields = PARAMETER_FIELDS.get(name);
  if (fields !== undefined && !fields.includes(parameterChoice.case)) {
    const names = fields.map((field) => field?.replace('Param', '_param')).join(' or ');
    throw invalid(`invalid value type for '${name}' parameter, expected ${names}.`);
  }
  if (parameterChoice.case === undefined) {
    throw invalid(`parameter '${name}' has invalid type. It should be either 'int', 'bool', or 'string'.`);
  }
  if (fields !== undefined && typeof parameterChoice.value === 'bigint' && parameterChoice.value < 0n) {
    throw invalid(`invalid value for '${name}', expected value >= 0.`);
  }
  const { value } = parameterChoice;
  // Numbers that a double holds are numbers, as in JSON.
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function fromContents(
  name: string,
  datatype: DataType,
  shape: readonly number[],
  contents: InferTensorContents | undefined,
  model: ModelSignature,
): Tensor {
  const wanted = CONTENTS[datatype];
  const given = contents && Object.values(CONTENTS).find((field) => contents[field].length > 0);
  if (given !== undefined && given !== wanted) {
    const holds = (Object.keys(CONTENTS) as DataType[]).filter((type) => CONTENTS[type] === given);
    throw invalid(
      `unexpected explicit tensor data for input tensor '${name}' for model '${model.name}' of type '${holds.join("' or '")}', expected datatype '${datatype}'`,
    );
  }
  if (wanted === undefined) {
    throw invalid(`input '${name}' is ${datatype}, which travels in raw_input_contents only`);
  }
  if (contents === undefined || (given === undefined && elementCount(shape) > 0)) {
    throw invalid(`unable to find data for input tensor '${name}' for model '${model.name}' in request.`);
  }
  if (datatype === 'BYTES') return { name, datatype, shape, data: contents.bytesContents };
  return { name, datatype, shape, data: pack(datatype, contents[wanted] as readonly JsonValue[]) };
}

function pack(datatype: NumericType, elements: readonly JsonValue[]): Uint8Array {
  const { size, write } = elementOf(datatype);
  const data = new Uint8Array(elements.length * size);
  const view = new DataView(data.buffer);
  elements.forEach((element, i) => write(view, i * size, element));
  return data;
}
