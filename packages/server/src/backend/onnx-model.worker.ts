import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  ModelError,
  type InferenceRequest,
  type Model,
  type ModelConfig,
  type ModelContext,
  type ModelTensor,
  type Outcome,
  type Tensor,
} from './api.ts';
import { elementCount, isElementType, TYPED_ARRAYS } from './elements.ts';

/** What a version's directory holds, unless the configuration names another file. */
const ONNX_FILE = 'model.onnx';
/** Beside each other in one batch at most, where a model has room for a batch and its configuration says nothing. */
const DEFAULT_BATCH = 4;

/** Of onnxruntime-node, which is there only if the user installed it. */
interface Runtime {
  readonly InferenceSession: { create(file: string, options: object): Promise<Session> };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => RuntimeTensor;
}
interface Session {
  readonly inputMetadata: readonly ValueMetadata[];
  readonly outputMetadata: readonly ValueMetadata[];
  run(feeds: Record<string, RuntimeTensor>, outputs: readonly string[]): Promise<Record<string, RuntimeTensor>>;
  release(): Promise<void>;
}
interface ValueMetadata {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type: string;
  /** A text is a dimension of any size. */
  readonly shape: readonly (number | string)[];
}
interface RuntimeTensor {
  readonly type: string;
  readonly data: ArrayLike<unknown> & ArrayBufferView;
  readonly dims: readonly number[];
}

/** Types by their names there. */
const TYPES: Readonly<Record<string, Tensor['datatype']>> = {
  bool: 'BOOL',
  uint8: 'UINT8',
  uint16: 'UINT16',
  uint32: 'UINT32',
  uint64: 'UINT64',
  int8: 'INT8',
  int16: 'INT16',
  int32: 'INT32',
  int64: 'INT64',
  float16: 'FP16',
  float32: 'FP32',
  float64: 'FP64',
  string: 'BYTES',
};
const NAMES = new Map(Object.entries(TYPES).map(([name, datatype]) => [datatype, name]));

/** A model in ONNX: requests that were batched together are one run of the session. */
export default class OnnxModel implements Model {
  #runtime!: Runtime;
  #session!: Session;
  #batched = false;
  /** The server's controls and states of sequences among them. */
  #inputs: readonly ModelTensor[] = [];
  #outputs: readonly ModelTensor[] = [];
  /** Outputs that are states for the next request of a sequence. */
  #states: readonly ModelTensor[] = [];

  static async autoCompleteConfig(config: ModelConfig, { directory }: { directory: string }): Promise<ModelConfig> {
    const session = await open(runtimeFor(directory), config, directory);
    try {
      return complete(config, session);
    } finally {
      await session.release();
    }
  }

  async initialize({ config, directory }: ModelContext): Promise<void> {
    this.#runtime = runtimeFor(directory);
    this.#session = await open(this.#runtime, config, directory);
    this.#batched = (config.max_batch_size ?? 0) > 0;
    const sequences = sequenceTensors(config);
    this.#inputs = [...(config.input ?? []), ...sequences.inputs];
    this.#outputs = config.output ?? [];
    this.#states = sequences.outputs;
    check('input', this.#inputs, this.#session.inputMetadata, this.#batched);
    check('output', [...this.#outputs, ...this.#states], this.#session.outputMetadata, this.#batched);
    const missing = this.#session.inputMetadata.find(({ name }) => !this.#inputs.some((input) => input.name === name));
    if (missing !== undefined) throw invalid(`the configuration lacks the input '${missing.name}' of the file`);
  }

  async execute(requests: readonly InferenceRequest[]): Promise<readonly Outcome[]> {
    const feeds = Object.fromEntries(
      this.#inputs.map(({ name }) => [name, this.#feed(requests.map((request) => request.input(name)))]),
    );
    const wanted = this.#outputs
      .map(({ name }) => name)
      .filter((name) => requests.some(({ requestedOutputs }) => requestedOutputs?.has(name) ?? true));
    const states = this.#states.map(({ name }) => name);
    const results = await this.#session.run(feeds, [...new Set([...wanted, ...states])]);
    if (!this.#batched) {
      for (const name of states) requests[0].setState(name, tensorOf(results[name]));
      return [{ outputs: Object.fromEntries(wanted.map((name) => [name, tensorOf(results[name])])) }];
    }
    let row = 0;
    return requests.map((request) => {
      const rows = request.input(this.#inputs[0].name).shape[0];
      const outputs = wanted.map((name) => [name, rowsOf(name, tensorOf(results[name]), row, rows)] as const);
      for (const name of states) request.setState(name, rowsOf(name, tensorOf(results[name]), row, rows));
      row += rows;
      return { outputs: Object.fromEntries(outputs) };
    });
  }

  async finalize(): Promise<void> {
    await this.#session.release();
  }

  /** One input of all requests, their rows behind each other. */
  #feed(parts: readonly Tensor[]): RuntimeTensor {
    const [{ datatype, shape: first }] = parts;
    const shape =
      parts.length === 1 ? first : [parts.reduce((rows, part) => rows + part.shape[0], 0), ...first.slice(1)];
    const type = NAMES.get(datatype)!;
    if (datatype === 'BYTES') {
      const texts = parts.flatMap(({ data }) =>
        (data as readonly Uint8Array[]).map((text) => Buffer.from(text).toString()),
      );
      return new this.#runtime.Tensor(type, texts, shape);
    }
    const arrays = parts.map(({ data }) => data as unknown as Uint8Array);
    const single = arrays.length === 1 && arrays[0].buffer instanceof ArrayBuffer ? arrays[0] : undefined;
    const elements = single ?? joined(datatype, arrays);
    const made = new this.#runtime.Tensor(type, elements, shape);
    // onnxruntime-node 1.30 finds no bytes in a Float16Array, which it makes of whatever it is given: the same bits again.
    if (datatype === 'FP16') {
      const { buffer, byteOffset, byteLength } = elements;
      Object.assign(made, { cpuData: new Uint16Array(buffer, byteOffset, byteLength / 2) });
    }
    return made;
  }
}

/** Found from the model's directory, as a model's own imports would be, then from Rose's, then from the working directory. */
function runtimeFor(directory: string): Runtime {
  for (const from of [join(directory, 'model.js'), import.meta.url, join(process.cwd(), 'package.json')]) {
    const require = createRequire(from);
    let file: string;
    try {
      file = require.resolve('onnxruntime-node');
    } catch {
      continue;
    }
    return require(file) as Runtime;
  }
  throw new ModelError('onnxruntime is not installed: npm install onnxruntime-node', 'UNAVAILABLE');
}

async function open(runtime: Runtime, config: ModelConfig, directory: string): Promise<Session> {
  const { default_model_filename: given } = config;
  const name = typeof given === 'string' && given !== '' ? given : ONNX_FILE;
  const file = join(directory, name);
  if (!existsSync(file)) throw invalid(`there is no ${name} in the version's directory`);
  const threads = (parameter: string): number | undefined => {
    const text = config.parameters?.[parameter]?.string_value;
    if (text === undefined) return undefined;
    if (/^\d{1,4}$/.test(text)) return Number(text);
    throw invalid(`parameter '${parameter}' must be a number of threads, not '${text}'`);
  };
  const [intra, inter] = [threads('intra_op_thread_count'), threads('inter_op_thread_count')];
  return runtime.InferenceSession.create(file, {
    ...(intra !== undefined && { intraOpNumThreads: intra }),
    ...(inter !== undefined && { interOpNumThreads: inter }),
  });
}

/** What the server gives a model of sequences beside the client's tensors, and takes from it. */
function sequenceTensors({ sequence_batching: sequences }: ModelConfig): Record<'inputs' | 'outputs', ModelTensor[]> {
  const { control_input: controls = [], state: states = [] } = sequences ?? {};
  const typeOf = (control: { readonly [field: string]: unknown }): string => {
    const has = (field: string): boolean => Array.isArray(control[field]) && control[field].length > 0;
    if (has('int32_false_true')) return 'TYPE_INT32';
    if (has('fp32_false_true')) return 'TYPE_FP32';
    return has('bool_false_true') ? 'TYPE_BOOL' : String(control.data_type);
  };
  const inputs = controls.map(({ name, control }) => ({ name, data_type: typeOf(control[0]), dims: [1] }));
  return {
    inputs: [...inputs, ...states.map(({ input_name: name, data_type, dims }) => ({ name, data_type, dims }))],
    outputs: states.map(({ output_name: name, data_type, dims }) => ({ name, data_type, dims })),
  };
}

/** Tensors that the configuration does not name; a first dimension of any size in all of them is the batch's. */
function complete(config: ModelConfig, { inputMetadata, outputMetadata }: Session): ModelConfig {
  const all = [...inputMetadata, ...outputMetadata];
  const silent = !config.input?.length && !config.output?.length;
  if (silent && !config.max_batch_size && all.every(({ shape }) => shape.length > 1 && isFree(shape[0]))) {
    config.max_batch_size = DEFAULT_BATCH;
    if (config.sequence_batching === undefined) config.dynamic_batching ??= {};
  }
  const batched = (config.max_batch_size ?? 0) > 0;
  const declare = (value: ValueMetadata): ModelTensor => {
    const [first, ...rest] = value.shape;
    if (batched && !isFree(first)) {
      throw invalid(`'${value.name}' has no dimension of any size for a batch: max_batch_size must be 0`);
    }
    const dims = (batched ? rest : value.shape).map((dim) => (isFree(dim) ? -1 : Number(dim)));
    if (dims.length === 0) throw invalid(`'${value.name}' has no dimensions beside the batch's: give dims and reshape`);
    return { name: value.name, data_type: configType(value), dims };
  };
  const sequences = sequenceTensors(config);
  const clients = (values: readonly ValueMetadata[], own: readonly ModelTensor[]): ModelTensor[] =>
    values.filter(({ name }) => !own.some((tensor) => tensor.name === name)).map(declare);
  if (!config.input?.length) config.input = clients(inputMetadata, sequences.inputs);
  if (!config.output?.length) config.output = clients(outputMetadata, sequences.outputs);
  return config;
}

function check(what: string, tensors: readonly ModelTensor[], there: readonly ValueMetadata[], batched: boolean): void {
  for (const { name, data_type, dims, allow_ragged_batch, reshape } of tensors) {
    const value = there.find((candidate) => candidate.name === name);
    if (value === undefined) {
      const names = there.map((candidate) => candidate.name).join(', ');
      throw invalid(`the file has no ${what} '${name}'; it has ${names}`);
    }
    if (configType(value) !== data_type) {
      throw invalid(`${what} '${name}' is ${data_type}, but ${configType(value)} in the file`);
    }
    if (allow_ragged_batch === true) throw invalid(`${what} '${name}' cannot be ragged: its rows are one tensor`);
    const own = (reshape as { shape: number[] } | undefined)?.shape ?? dims;
    const full = batched ? [-1, ...own] : own;
    // A file that says nothing of a shape has an empty one.
    if (value.shape.length === 0) continue;
    const fits =
      full.length === value.shape.length &&
      value.shape.every((dim, i) => isFree(dim) || full[i] === -1 || full[i] === dim) &&
      (!batched || isFree(value.shape[0]));
    if (!fits)
      throw invalid(`${what} '${name}' has the shape [${full.join(',')}], but [${value.shape.join(',')}] in the file`);
  }
}

function configType({ name, isTensor, type }: ValueMetadata): string {
  const datatype = isTensor ? TYPES[type] : undefined;
  if (datatype === undefined)
    throw invalid(`'${name}' is ${isTensor ? type : 'no tensor'}, which Triton has no type for`);
  return datatype === 'BYTES' ? 'TYPE_STRING' : `TYPE_${datatype}`;
}

function isFree(dim: number | string): boolean {
  return typeof dim === 'string' || dim < 0;
}

function invalid(message: string): ModelError {
  return new ModelError(message, 'INVALID_ARG');
}

function joined(datatype: Exclude<Tensor['datatype'], 'BYTES'>, arrays: readonly Uint8Array[]): ArrayBufferView {
  const size = TYPED_ARRAYS[datatype].BYTES_PER_ELEMENT;
  const whole = new TYPED_ARRAYS[datatype](new ArrayBuffer(arrays.reduce((sum, { length }) => sum + length * size, 0)));
  let at = 0;
  for (const array of arrays) {
    (whole as unknown as Uint8Array).set(array, at);
    at += array.length;
  }
  return whole;
}

function tensorOf({ type, data, dims }: RuntimeTensor): Tensor {
  const datatype = TYPES[type];
  if (datatype === 'BYTES') {
    return { datatype, shape: dims, data: Array.from(data as ArrayLike<string>, (text) => Buffer.from(text)) };
  }
  if (!isElementType(datatype)) throw new ModelError(`an output is ${type}, which Triton has no type for`);
  const { buffer, byteOffset } = data;
  const array = new TYPED_ARRAYS[datatype](buffer, byteOffset, data.length);
  return { datatype, shape: dims, data: array } as unknown as Tensor;
}

function rowsOf(name: string, { datatype, shape, data }: Tensor, from: number, rows: number): Tensor {
  const [all, ...rest] = shape;
  if (all === undefined || all < from + rows) {
    throw new ModelError(`output '${name}' has the shape [${shape.join(',')}]: its first dimension is no batch`);
  }
  const row = elementCount(rest);
  const part = (data as Uint8Array)[datatype === 'BYTES' ? 'slice' : 'subarray'](from * row, (from + rows) * row);
  return { datatype, shape: [rows, ...rest], data: part } as unknown as Tensor;
}
