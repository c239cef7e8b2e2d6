import { elementOf } from './datatype.ts';
import { invalid } from './errors.ts';
import { fits, fullShape, type InputSpec, type ModelSignature } from './model.ts';
import { elementCount, printProduct, printShape, type Tensor } from './tensor.ts';

const NO_ID = '[request id: <id_unknown>] ';

/**
 * Check a request's tensors against the model's declaration, with the texts that Triton's clients look for.
 * @param id of the request, for messages; empty: it has none
 */
export function checkRequest(
  model: ModelSignature,
  inputs: readonly Tensor[],
  outputs: readonly string[] | undefined,
  id: string,
): void {
  const prefix = id === '' ? NO_ID : `[request id: ${id}] `;
  checkNames(model, inputs, outputs, prefix);
  for (const tensor of inputs) {
    const spec = model.inputs.find(({ name }) => name === tensor.name);
    if (spec === undefined) throw invalid(`unexpected inference input '${tensor.name}' for model '${model.name}'`);
    checkInput(model, spec, tensor, prefix);
  }
  checkCount(model, inputs, prefix);
  checkBatch(model, inputs, prefix);
}

function checkNames(
  model: ModelSignature,
  inputs: readonly Tensor[],
  outputs: readonly string[] | undefined,
  prefix: string,
): void {
  const input = duplicate(inputs.map(({ name }) => name));
  if (input !== undefined) throw invalid(`${prefix}input '${input}' already exists in request`);
  const output = duplicate(outputs ?? []);
  if (output !== undefined) throw invalid(`${prefix}output '${output}' already exists in request`);
  for (const name of outputs ?? []) {
    if (!model.outputs.some((output) => output.name === name)) {
      throw invalid(`unexpected inference output '${name}' for model '${model.name}'`);
    }
  }
}

/** The first name that stands there twice. */
function duplicate(names: readonly string[]): string | undefined {
  if (names.length <= FEW) return names.find((name, i) => names.indexOf(name) < i);
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

/** Names that are compared one by one: so many take less than a set does. */
const FEW = 8;

function checkCount(model: ModelSignature, inputs: readonly Tensor[], prefix: string): void {
  // Their names are all different, and all the model's.
  if (inputs.length === model.inputs.length) return;
  const given = new Set(inputs.map(({ name }) => name));
  const required = model.inputs.filter(({ optional }) => !optional);
  const missing = required.filter(({ name }) => !given.has(name));
  if (missing.length === 0) return;
  const most = model.inputs.length;
  const expected =
    required.length === most
      ? `expected ${most} inputs`
      : `expected number of inputs between ${required.length} and ${most}`;
  const got = [...given].map((name) => `'${name}'`).join(',');
  const absent = missing.map(({ name }) => `'${name}'`).join(',');
  throw invalid(
    `${prefix}${expected} but got ${given.size} inputs for model '${model.name}'. Got input(s) [${got}], ` +
      `but missing required input(s) [${absent}]. Please provide all required input(s).`,
  );
}

function checkInput(model: ModelSignature, spec: InputSpec, tensor: Tensor, prefix: string): void {
  const { name, datatype, shape } = tensor;
  if (!spec.datatypes.includes(datatype)) {
    const expected = spec.datatypes.join("' or '");
    throw invalid(
      `${prefix}inference input '${name}' data-type is '${datatype}', but model '${model.name}' expects '${expected}'`,
    );
  }
  if (!fits(model, spec.dims, shape)) {
    const expected = fullShape(model, spec.dims);
    const note =
      model.maxBatchSize > 0
        ? ' NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape.'
        : '';
    throw invalid(
      `${prefix}unexpected shape for input '${name}' for model '${model.name}'. ` +
        `Expected ${printShape(expected)}, got ${printShape(shape)}.${note}`,
    );
  }
  const count = elementCount(shape);
  if (tensor.datatype === 'BYTES') {
    if (tensor.data.length !== count) {
      const place = `for inference input '${name}' for model '${model.name}'`;
      throw invalid(`${prefix}expected ${printProduct(shape)} string elements ${place}, got ${tensor.data.length}`);
    }
    return;
  }
  const { size } = elementOf(tensor.datatype);
  if (tensor.data.length !== count * size) {
    const place = `input byte size mismatch for input '${name}' for model '${model.name}'`;
    throw invalid(`${prefix}${place}. Expected ${printProduct([...shape, size])}, got ${tensor.data.length}`);
  }
}

function checkBatch(model: ModelSignature, inputs: readonly Tensor[], prefix: string): void {
  if (model.maxBatchSize === 0) return;
  const batch = inputs[0]?.shape[0];
  for (const { name, shape } of inputs) {
    if (shape[0] === 0) throw invalid(`${prefix}input '${name}' has batch-size 0 for '${model.name}': it must be >= 1`);
    if (shape[0] > model.maxBatchSize) {
      throw invalid(`${prefix}inference request batch-size must be <= ${model.maxBatchSize} for '${model.name}'`);
    }
    if (shape[0] !== batch) {
      throw invalid(`${prefix}input '${name}' batch size does not match other inputs for '${model.name}'`);
    }
  }
}
