import { dirname, join } from 'node:path';
import type {
  ModelConfig,
  ModelSequenceBatching_InitialState as InitialState,
  ModelSequenceBatching_State as State,
} from '../grpc/proto/model_config_pb.js';
import { invalid, malformed } from '../triton/errors.ts';
import { fits, fullShape } from '../triton/model.ts';
import { configuredBytes, elementCount, printShape, tensorFromBytes, type Tensor } from '../triton/tensor.ts';
import { readWithin } from './layout.ts';
import { datatypeOf } from './signature.ts';

/** In a model's directory: where the files lie that `data_file` of an initial state names. */
export const INITIAL_STATE_DIRECTORY = 'initial_state';

/** States that the server keeps for a model, one set of tensors for each sequence. */
export interface SequenceStates {
  /** What a sequence begins with, by the names of the inputs. */
  readonly initial: ReadonlyMap<string, Tensor>;
  /**
   * Check what a request has set against the configuration.
   * @param set by the names of the outputs
   * @returns by the names of the inputs
   */
  accept(set: readonly Tensor[]): ReadonlyMap<string, Tensor>;
}

/** Refuse states that make no sense, with Triton's texts. */
export function checkStates(states: readonly State[], model: string): void {
  const names = states.flatMap(({ inputName, outputName }) => [`input '${inputName}'`, `output '${outputName}'`]);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw invalid(`state ${twice} is specified more than once for ${model}`);
  for (const { inputName, outputName, dataType, dims, initialState, useGrowableMemory } of states) {
    const which = `state input '${inputName}'`;
    if (inputName === '' || outputName === '') {
      throw invalid(`a state of ${model} must have an 'input_name' and an 'output_name'`);
    }
    if (dims.some((dim) => dim < 1n && dim !== -1n)) {
      throw invalid(
        `${which} dimension must be integer >= 1, or -1 to indicate a variable-size dimension for ${model}`,
      );
    }
    if (useGrowableMemory) {
      throw invalid(
        `'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change the ` +
          `instance type to KIND_GPU or set 'use_growable_memory' to false for ${which}.`,
      );
    }
    if (initialState.length > 1) {
      const found = `Found '${initialState.length}' elements.`;
      throw invalid(`initial_state field for ${which} must contain exactly one or zero element. ${found}`);
    }
    const [initial] = initialState;
    if (initial === undefined) continue;
    if (initial.dataType !== dataType) {
      throw invalid(
        `The data type used for 'initial_state' field of state '${inputName}' does not match the state data type.`,
      );
    }
    if (initial.name === '') throw invalid(`Field 'name' must be set when using initial_state for ${which}.`);
    checkInitialDims(initial, dims, inputName);
  }
}

function checkInitialDims({ dims: initial }: InitialState, dims: readonly bigint[], input: string): void {
  if (initial.length !== dims.length) {
    throw invalid(
      `Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input ` +
        `'${input}'. ${initial.length} != ${dims.length}`,
    );
  }
  initial.forEach((dim, i) => {
    if (dim === -1n)
      throw invalid(`'initial_state' field for state input name '${input}' contains variable dimensions.`);
    if (dims[i] === -1n || dim === dims[i]) return;
    const differ = `${dim} != ${dims[i]}`;
    throw invalid(`'initial_state' dim for input name '${input}' doesn't match 'state' dim description. ${differ}`);
  });
}

/**
 * The states of a model of sequences, with what they begin with: as `initial_state` says, or zeros, a free size being 1.
 * @param directory the version's
 */
export async function readStates(config: ModelConfig, directory: string): Promise<SequenceStates> {
  const { schedulingChoice } = config;
  const states = schedulingChoice.case === 'sequenceBatching' ? schedulingChoice.value.state : [];
  const files = join(dirname(directory), INITIAL_STATE_DIRECTORY);
  const initial = await Promise.all(states.map((state) => initialTensor(state, config, files)));
  return {
    initial: new Map(initial.map((tensor) => [tensor.name, tensor])),
    accept: (set) =>
      new Map(
        set.map((tensor) => {
          const state = states.find(({ outputName }) => outputName === tensor.name) as State;
          return [state.inputName, acceptState(state, tensor, config)];
        }),
      ),
  };
}

async function initialTensor(state: State, { maxBatchSize }: ModelConfig, files: string): Promise<Tensor> {
  const { inputName: name, dataType, initialState } = state;
  const [initial] = initialState;
  const dims = (initial?.dims ?? state.dims).map((dim) => (dim === -1n ? 1 : Number(dim)));
  const shape = maxBatchSize > 0 ? [1, ...dims] : dims;
  const datatype = datatypeOf(dataType);
  const bytes = configuredBytes(datatype, shape, `the initial state of '${name}'`);
  const source = initial?.stateData;
  if (source === undefined || source.case === 'zeroData') {
    return tensorFromBytes(name, datatype, shape, new Uint8Array(bytes), name);
  }
  if (source.case === undefined) throw invalid(`initial_state setting expects state '${name}' to have state_data set`);
  const data = await readWithin(files, source.value, `the initial state of '${name}'`);
  if (datatype === 'BYTES') {
    const tensor = tensorFromBytes(name, datatype, shape, data, name);
    if (tensor.data.length === elementCount(shape)) return tensor;
    throw invalid(
      `initial_state setting expects ${elementCount(shape)} texts, ${source.value} has ${tensor.data.length}`,
    );
  }
  if (data.length < bytes) {
    const has = `the data provided from ${source.value} only has ${data.length} bytes.`;
    throw invalid(`initial_state setting expects ${bytes} bytes, but ${has}`);
  }
  return tensorFromBytes(name, datatype, shape, data.subarray(0, bytes), name);
}

function acceptState({ inputName, outputName, dataType, dims }: State, tensor: Tensor, config: ModelConfig): Tensor {
  const { datatype, shape } = tensor;
  const where = `state '${outputName}' of model '${config.name}'`;
  const expected = datatypeOf(dataType);
  if (datatype !== expected) throw malformed(`${where} is ${datatype}; its configuration says ${expected}`);
  const declared = dims.map(Number);
  if (!fits(config, declared, shape) || (config.maxBatchSize > 0 && shape[0] !== 1)) {
    const wanted = printShape(fullShape(config, declared));
    throw malformed(`${where} has shape ${printShape(shape)}; its configuration says ${wanted}`);
  }
  // What the model sent may be a view of a whole message, which would be kept as long as the sequence.
  if (tensor.datatype === 'BYTES') {
    return { ...tensor, name: inputName, data: tensor.data.map((element) => Uint8Array.from(element)) };
  }
  const { data } = tensor;
  const whole = data.byteLength === data.buffer.byteLength;
  return { ...tensor, name: inputName, data: whole ? data : Uint8Array.from(data) };
}
