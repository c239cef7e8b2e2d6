import {
  DataType,
  ModelSequenceBatching_Control_Kind as Kind,
  type ModelConfig,
  type ModelSequenceBatching,
  type ModelSequenceBatching_Control as Control,
} from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';
import type { Sequence } from '../triton/model.ts';
import { elementOf, type NumericType } from '../triton/datatype.ts';
import type { JsonValue } from '../triton/json.ts';
import type { Tensor } from '../triton/tensor.ts';
import { checkStates } from './sequence-states.ts';
import { datatypeOf } from './signature.ts';

/** Types that an id may have as a tensor. */
const ID_TYPES = [
  DataType.TYPE_UINT64,
  DataType.TYPE_INT64,
  DataType.TYPE_UINT32,
  DataType.TYPE_INT32,
  DataType.TYPE_STRING,
];

/** Refuse controls that make no sense, with Triton's texts. */
export function checkSequences({ name, maxBatchSize }: ModelConfig, batching: ModelSequenceBatching): void {
  const seen = new Set<Kind>();
  for (const { name: tensor, control } of batching.controlInput) {
    if (tensor === '') throw invalid(`sequence batching control tensor must have a name for ${name}`);
    if (control.length !== 1) {
      throw invalid(`sequence batching control tensor '${tensor}' is specified for multiple control kinds for ${name}`);
    }
    const [one] = control;
    const kind = Kind[one.kind];
    if (seen.has(one.kind)) throw invalid(`sequence batching specifies multiple ${kind} tensors for ${name}`);
    seen.add(one.kind);
    checkControl(one, kind, name);
  }
  checkStates(batching.state, name);
  checkUtilization(batching, name);
  const oldest = batching.strategyChoice.case === 'oldest' ? batching.strategyChoice.value : undefined;
  for (const size of oldest?.preferredBatchSize ?? []) {
    if (size <= 0) throw invalid(`sequence batching preferred batch size must be positive for ${name}`);
    if (size > maxBatchSize) {
      throw invalid(`sequence batching preferred batch size must be <= max batch size for ${name}`);
    }
  }
}

function checkUtilization(batching: ModelSequenceBatching, model: string): void {
  const { strategyChoice } = batching;
  if (strategyChoice.case !== 'direct') return;
  const { minimumSlotUtilization: share } = strategyChoice.value;
  if (share >= 0 && share <= 1) return;
  throw invalid(`sequence batching minimum slot utilization must be in range (0.0, 1.0] for ${model}`);
}

function checkControl(control: Control, kind: string, model: string): void {
  const lists = [control.int32FalseTrue, control.fp32FalseTrue, control.boolFalseTrue].filter(
    ({ length }) => length > 0,
  );
  if (control.kind === Kind.CONTROL_SEQUENCE_CORRID) {
    if (lists.length > 0) {
      const names = "'int32_false_true', 'fp32_false_true' or 'bool_false_true'";
      throw invalid(`sequence batching must not specify either ${names} for ${kind} for ${model}`);
    }
    if (ID_TYPES.includes(control.dataType)) return;
    const allowed = 'TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING';
    throw invalid(`unexpected data type for control ${kind} for ${model}. Allowed data types are ${allowed}`);
  }
  if (lists.length !== 1 || lists[0].length !== 2) {
    const names = "'int32_false_true', 'fp32_false_true' or 'bool_false_true'";
    throw invalid(`sequence batching must specify either ${names} with exactly 2 entries for ${kind} for ${model}`);
  }
}

/** The tensors that tell a model of sequences where a request stands. Throws where it has no tensor for such an id. */
export function sequenceControls(
  { name, maxBatchSize }: ModelConfig,
  { controlInput }: ModelSequenceBatching,
): (sequence: Sequence) => Tensor[] {
  const shape = maxBatchSize > 0 ? [1, 1] : [1];
  return (sequence) =>
    controlInput.map(({ name: tensor, control: [control] }) => controlTensor(tensor, shape, control, sequence, name));
}

function controlTensor(
  name: string,
  shape: readonly number[],
  control: Control,
  { id, start, end }: Sequence,
  model: string,
): Tensor {
  if (control.kind === Kind.CONTROL_SEQUENCE_CORRID) return idTensor(name, shape, control.dataType, id, model);
  const flags = {
    [Kind.CONTROL_SEQUENCE_START]: start,
    [Kind.CONTROL_SEQUENCE_END]: end,
    // Only requests that are there are executed.
    [Kind.CONTROL_SEQUENCE_READY]: true,
  };
  const at = flags[control.kind] ? 1 : 0;
  if (control.int32FalseTrue.length > 0) return numeric(name, 'INT32', shape, control.int32FalseTrue[at]);
  if (control.fp32FalseTrue.length > 0) return numeric(name, 'FP32', shape, control.fp32FalseTrue[at]);
  return numeric(name, 'BOOL', shape, control.boolFalseTrue[at]);
}

function idTensor(name: string, shape: readonly number[], type: DataType, id: string | bigint, model: string): Tensor {
  const isText = type === DataType.TYPE_STRING;
  if (isText !== (typeof id === 'string')) {
    const [right, wrong] = isText ? ['texts', 'numbers'] : ['numbers', 'texts'];
    throw invalid(`sequences of model '${model}' have ${right} for ids, not ${wrong}`);
  }
  if (typeof id === 'string') return { name, datatype: 'BYTES', shape, data: [Buffer.from(id)] };
  return numeric(name, datatypeOf(type) as NumericType, shape, id);
}

function numeric(name: string, datatype: NumericType, shape: readonly number[], value: JsonValue): Tensor {
  const { size, write } = elementOf(datatype);
  const data = new Uint8Array(size);
  write(new DataView(data.buffer), 0, value);
  return { name, datatype, shape, data };
}
