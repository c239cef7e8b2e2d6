import { elementOf, isDataType } from './datatype.ts';
import type { OutputRange, RegionPlace, RegionUse } from '../shared-memory/regions.ts';
import { invalid, malformed } from './errors.ts';
import { JsonObject, JsonSyntaxError, parseJson, type JsonValue } from './json.ts';
import type { InputSpec, ModelSignature } from './model.ts';
import { takeParameters, type RequestParameters } from './parameters.ts';
import { tensorFromRegion } from './region-tensor.ts';
import { elementCount, tensorFromBytes, tensorFromJson, type Tensor } from './tensor.ts';

export interface InferRequest {
  readonly id: string;
  readonly parameters: RequestParameters;
  readonly inputs: readonly Tensor[];
  /** In the order asked for; undefined: all of the model's. */
  readonly outputs: readonly RequestedOutput[] | undefined;
}

export interface RequestedOutput {
  readonly name: string;
  readonly binary: boolean;
  /** So many largest elements of each row, as texts, instead of the output; 0: the output. */
  readonly classes: number;
  /** Where its data goes instead of into the reply. */
  readonly range: OutputRange | undefined;
}

/**
 * Read the body of `/infer`: JSON, then the raw tensors of the inputs that announce them.
 * @param headLength bytes of its JSON (see `headLengthOf`); undefined: the whole body is JSON
 * @param regions takes the regions of shared memory that the request names
 */
export function readInferRequest(
  body: Buffer,
  headLength: number | undefined,
  model: ModelSignature,
  maxBytes: number,
  regions: RegionUse,
): InferRequest {
  if (headLength === 0) return readRawRequest(body, model);
  const split = headLength ?? body.length;
  const json = readObject(split === body.length ? body : body.subarray(0, split));
  const id = readId(json);
  const parameters = takeParameters(objectOf(json, 'parameters')?.members ?? []);
  const binary = { body, at: split, allowed: headLength !== undefined };
  const inputs = arrayOf(json, 'inputs').map((input) => {
    if (!(input instanceof JsonObject))
      throw malformed("Unable to parse 'inputs': attempt to access JSON non-object as object");
    return readInput(input, binary, model, maxBytes, regions);
  });
  if (binary.at < body.length) throw invalid(`unexpected additional input data for model '${model.name}'`);
  const outputs =
    json.get('outputs') === undefined
      ? undefined
      : arrayOf(json, 'outputs').map((output) => readOutput(output, regions));
  return { id, parameters, inputs, outputs };
}

/** The JSON object that a body holds. */
export function readObject(bytes: Uint8Array): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(bytes);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw malformed(`failed to parse the request JSON buffer: ${error.message}`);
  }
  if (value instanceof JsonObject) return value;
  throw malformed('failed to parse the request JSON buffer: the document must be an object at 0');
}

export function readId(json: JsonObject): string {
  const id = json.get('id') ?? '';
  if (typeof id !== 'string') throw malformed("Unable to parse 'id': attempt to access JSON non-string as string");
  return id;
}

/**
 * Bytes of JSON that a body of `length` bytes begins with; undefined: it has nothing else.
 * @param text value of `Inference-Header-Content-Length`
 * @throws TritonError 400
 */
export function headLengthOf(text: string | undefined, length: number): number | undefined {
  if (text === undefined) return undefined;
  const name = 'Inference-Header-Content-Length';
  const value = Number.parseInt(text, 10);
  if (Number.isNaN(value)) throw invalid(`Unable to parse ${name}, got: ${text}`);
  if (Math.abs(value) > 2 ** 31 - 1) {
    throw invalid(`Unable to parse ${name}, value is out of range [ ${-(2 ** 31)}, ${2 ** 31 - 1} ], got: ${text}`);
  }
  if (value < 0 || value > length) {
    throw invalid(`inference header size should be in range (0, ${length}), got: ${text}`);
  }
  return value;
}

/** A body without JSON is the one input of a model that has only one, as a batch of one row; outputs come back as bytes. */
function readRawRequest(body: Buffer, model: ModelSignature): InferRequest {
  const [spec, ...others] = model.inputs;
  if (spec === undefined || others.length > 0) {
    throw invalid(
      `Raw request must only have 1 input (found 1) to be deduced but got ${model.inputs.length} inputs in '${model.name}' model configuration`,
    );
  }
  const parameters = takeParameters([['binary_data_output', true]]);
  return { id: '', parameters, inputs: [rawTensor(body, spec, model)], outputs: undefined };
}

/** The size of the body tells the one dimension that is free. */
function rawTensor(body: Buffer, { name, datatypes: [datatype], dims }: InputSpec, model: ModelSignature): Tensor {
  const batch = model.maxBatchSize > 0 ? [1] : [];
  if (datatype === 'BYTES') {
    if (dims.length === 1 && dims[0] === 1) return { name, datatype, shape: [...batch, 1], data: [body] };
    throw invalid(`For BYTE datatype raw input '${name}', the model must have input shape [1]`);
  }
  if (dims.filter((dim) => dim === -1).length > 1) {
    throw invalid(
      `The shape of the raw input '${name}' can not be deduced because there are more than one variable-sized dimension`,
    );
  }
  const row = dims.reduce((size, dim) => (dim === -1 ? size : size * dim), elementOf(datatype).size);
  const shape = dims.map((dim) => (dim === -1 ? body.length / row : dim));
  if (shape.every(Number.isInteger)) return { name, datatype, shape: [...batch, ...shape], data: body };
  throw invalid(`The shape of the raw input '${name}' can not be deduced: ${body.length} bytes do not fill it`);
}

function readInput(
  input: JsonObject,
  binary: { readonly body: Buffer; at: number; readonly allowed: boolean },
  model: ModelSignature,
  maxBytes: number,
  regions: RegionUse,
): Tensor {
  const parameters = objectOf(input, 'parameters');
  const binarySize = parameters?.get('binary_data_size');
  const region = parameters?.get('shared_memory_region');
  const data = input.get('data');
  checkOneSource(data, binarySize, region);
  const name = stringOf(input, 'name');
  const datatype = stringOf(input, 'datatype');
  if (!isDataType(datatype)) throw invalid(`invalid datatype for input ${name}`);
  const shape = readShape(input, name);
  if (region !== undefined) {
    return tensorFromRegion(regions, readPlace(parameters as JsonObject), { name, datatype, shape }, model.name);
  }
  if (binarySize === undefined) {
    if (!Array.isArray(data)) throw malformed("Unable to parse 'data': attempt to access JSON non-array as array");
    return tensorFromJson(name, datatype, shape, data, maxBytes);
  }
  if (typeof binarySize !== 'number' || !Number.isInteger(binarySize) || binarySize < 0) {
    throw malformed(
      "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer as unsigned-integer",
    );
  }
  if (binarySize > 0 && !binary.allowed) {
    throw invalid(
      "must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when passing inputs in binary data format",
    );
  }
  const missing = binarySize - (binary.body.length - binary.at);
  if (missing > 0) {
    throw invalid(
      `unexpected size for input '${name}', expecting ${missing} additional bytes for model '${model.name}'`,
    );
  }
  const { buffer, byteOffset } = binary.body;
  const bytes = new Uint8Array(buffer, byteOffset + binary.at, binarySize);
  binary.at += binarySize;
  return tensorFromBytes(name, datatype, shape, bytes, model.name);
}

function checkOneSource(...sources: readonly [data: Source, binarySize: Source, region: Source]): void {
  let count = 0;
  for (const source of sources) if (source !== undefined) count++;
  if (count === 1) return;
  const set = ["'data'", "'binary_data_size'", "'shared_memory_region'"].filter((_, i) => sources[i] !== undefined);
  throw invalid(
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', " +
      `'shared_memory_region' in 'parameters'. But ${set.length === 0 ? 'no field is set' : `set ${set.join(' ')}`}`,
  );
}

type Source = JsonValue | undefined;

function readShape(input: JsonObject, name: string): number[] {
  const dims = arrayOf(input, 'shape').map((dim) => {
    // Larger numbers than 64 bits hold come as those that are no integers.
    const valid = (typeof dim === 'number' && Number.isSafeInteger(dim)) || typeof dim === 'bigint';
    if (valid && dim >= 0) return dim;
    throw malformed("Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer");
  });
  const shape = dims.map(Number);
  const place = `invalid shape for input '${name}': shape [${dims.join(',')}]`;
  if (elementCount(shape) >= 2 ** 63) {
    throw invalid(`${place} causes total element count to exceed maximum size of ${2n ** 63n - 1n}`);
  }
  if (shape.every(Number.isSafeInteger)) return shape;
  throw invalid(`${place} has a dimension of more than ${Number.MAX_SAFE_INTEGER}`);
}

/** The part of a region that a tensor's parameters name. */
function readPlace(parameters: JsonObject): RegionPlace {
  const region = stringOf(parameters, 'shared_memory_region');
  const unsigned = (key: string): bigint => {
    const value = parameters.get(key) ?? 0;
    const integer = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
    if (integer && value >= 0) return BigInt(value);
    throw malformed(`Unable to parse '${key}': attempt to access JSON non-unsigned-integer as unsigned-integer`);
  };
  return { region, offset: unsigned('shared_memory_offset'), bytes: unsigned('shared_memory_byte_size') };
}

function readOutput(output: JsonValue, regions: RegionUse): RequestedOutput {
  if (!(output instanceof JsonObject))
    throw malformed("Unable to parse 'outputs': attempt to access JSON non-object as object");
  const name = stringOf(output, 'name');
  const parameters = objectOf(output, 'parameters');
  const classes = parameters?.get('classification');
  const binary = parameters?.get('binary_data') ?? false;
  if (typeof binary !== 'boolean') {
    throw malformed("Unable to parse 'binary_data': attempt to access JSON non-boolean as boolean");
  }
  let range: OutputRange | undefined;
  if (parameters?.get('shared_memory_region') !== undefined) {
    const both = (other: string): string => `Output can't set both 'shared_memory_region' and '${other}'`;
    if (classes !== undefined) throw invalid(both('classification'));
    if (binary) throw invalid(both('binary_data'));
    range = regions.output(readPlace(parameters));
  }
  return { name, binary, classes: classes === undefined ? 0 : classCount(classes), range };
}

function classCount(value: JsonValue): number {
  const integer = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  if (integer && value >= 0) return Number(value);
  throw malformed("Unable to set 'classification': attempt to access JSON non-unsigned-integer as unsigned-integer");
}

function stringOf(json: JsonObject, key: string): string {
  const value = json.get(key);
  if (value === undefined)
    throw malformed(`Unable to parse '${key}': attempt to access non-existing object member '${key}'`);
  if (typeof value !== 'string')
    throw malformed(`Unable to parse '${key}': attempt to access JSON non-string as string`);
  return value;
}

function arrayOf(json: JsonObject, key: string): readonly JsonValue[] {
  const value = json.get(key);
  if (value === undefined)
    throw malformed(`Unable to parse '${key}': attempt to access non-existing object member '${key}'`);
  if (!Array.isArray(value)) throw malformed(`Unable to parse '${key}': attempt to access JSON non-array as array`);
  return value;
}

function objectOf(json: JsonObject, key: string): JsonObject | undefined {
  const value = json.get(key);
  if (value === undefined || value instanceof JsonObject) return value;
  throw malformed(`Unable to parse '${key}': attempt to access JSON non-object as object`);
}
