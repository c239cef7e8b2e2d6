import { invalid } from './errors.ts';
import { readId, readObject } from './infer-request.ts';
import { JsonObject, type JsonValue } from './json.ts';
import { fullShape, type InputSpec, type ModelSignature } from './model.ts';
import { checkParameter } from './parameters.ts';
import { tensorFromJson, type Tensor } from './tensor.ts';

export interface GenerateBody {
  readonly id: string;
  readonly inputs: readonly Tensor[];
  readonly parameters: ReadonlyMap<string, JsonValue>;
}

/**
 * Read the flat JSON of `/generate`: a key that names an input is that tensor (a scalar or a list), any other scalar a
 * parameter; the object `parameters` holds more of both.
 */
export function readGenerateBody(body: Buffer, model: ModelSignature, maxBytes: number): GenerateBody {
  const json = readObject(body.length === 0 ? Buffer.from('{}') : body);
  const id = readId(json);
  const inputs: Tensor[] = [];
  const parameters = new Map<string, JsonValue>();
  const read = (name: string, value: JsonValue): void => {
    const spec = model.inputs.find((input) => input.name === name);
    if (spec === undefined) {
      parameters.set(name, checkParameter(name, value));
      return;
    }
    if (inputs.some((input) => input.name === name)) throw invalid(`input '${name}' already exists in request`);
    inputs.push(readTensor(model, spec, value, maxBytes));
  };
  for (const [key, value] of json.members) {
    if (key === 'id') continue;
    if (key !== 'parameters') read(key, value);
    else readNested(value, read);
  }
  return { id, inputs, parameters };
}

function readNested(value: JsonValue, read: (name: string, value: JsonValue) => void): void {
  if (!(value instanceof JsonObject)) throw invalid("Expected JSON object for keyword: 'parameters'");
  try {
    for (const [name, member] of value.members) read(name, member);
  } catch (error) {
    if (error instanceof Error) error.message = `Converting keyword: 'parameters': ${error.message}`;
    throw error;
  }
}

/** Fixed dimensions take their share of the elements, the innermost free one the rest, other free ones are 1. */
function readTensor(model: ModelSignature, spec: InputSpec, value: JsonValue, maxBytes: number): Tensor {
  const elements = Array.isArray(value) ? value.length : 1;
  const shape = [...fullShape(model, spec.dims)];
  let rest = shape.reduce((count, dim) => (dim === -1 ? count : count / dim), elements);
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== -1) continue;
    shape[i] = rest;
    rest = 1;
  }
  if (rest !== 1 || !shape.every(Number.isInteger)) {
    throw invalid(`The schema can not convert input '${spec.name}' to tensor with proper shape`);
  }
  return tensorFromJson(spec.name, spec.datatypes[0], shape, value, maxBytes);
}
