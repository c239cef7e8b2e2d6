import { create } from '@bufbuild/protobuf';
import type { Task } from '@rose/engine';
import {
  DataType as ConfigType,
  ModelInputSchema,
  ModelOutputSchema,
  ModelParameterSchema,
  ModelTransactionPolicySchema,
  type ModelConfig,
  type ModelInput,
  type ModelOutput,
} from '../grpc/proto/model_config_pb.js';
import type { BuiltinSignature } from '../triton/builtin.ts';
import { configType, type DataType } from '../triton/datatype.ts';
import { invalid, TritonError } from '../triton/errors.ts';

interface Declared {
  readonly name: string;
  readonly datatypes: readonly [DataType, ...DataType[]];
  readonly dims: readonly number[];
}

/**
 * Complete the configuration of a checkpoint: its task decides the tensors. What `config` names of them must be there;
 * it decides `max_batch_size` and whether a model that generates text is decoupled. Changes `config`.
 * @throws TritonError naming what does not fit
 */
export function completeForEngine(config: ModelConfig, signature: BuiltinSignature, task: Task): ModelConfig {
  refuseScheduling(config);
  const generates = task === 'generate';
  const outputs = signature.outputs.map((output) => ({ ...output, datatypes: [output.datatype] as const }));
  for (const input of config.input) checkTensor('input', input, signature.inputs, config.name);
  for (const output of config.output) checkTensor('output', output, outputs, config.name);
  config.input = signature.inputs.map(({ name, datatypes, dims, optional }) =>
    create(ModelInputSchema, { name, dataType: typeOf(datatypes[0]), dims: dims.map(BigInt), optional }),
  );
  const labelFiles = new Map(config.output.map(({ name, labelFilename }) => [name, labelFilename]));
  config.output = outputs.map(({ name, datatype, dims }) => {
    const labelFilename = labelFiles.get(name) ?? '';
    return create(ModelOutputSchema, { name, dataType: typeOf(datatype), dims: dims.map(BigInt), labelFilename });
  });
  if (config.maxBatchSize === 0) config.maxBatchSize = signature.maxBatchSize;
  if (generates) {
    config.modelTransactionPolicy ??= create(ModelTransactionPolicySchema, { decoupled: signature.decoupled });
  } else if (config.modelTransactionPolicy?.decoupled === true) {
    throw invalid(`model '${config.name}' answers once and cannot be decoupled: leave model_transaction_policy out`);
  }
  for (const [name, stringValue] of Object.entries(signature.facts)) {
    config.parameters[name] ??= create(ModelParameterSchema, { stringValue });
  }
  return config;
}

/** The engine batches on its own: what would steer a scheduler of the server has no effect, and is refused. */
function refuseScheduling({ name, schedulingChoice, instanceGroup }: ModelConfig): void {
  const refuse = (what: string): never => {
    throw new TritonError(501, `${what} of model '${name}' is not for a checkpoint: its engine batches on its own`);
  };
  if (schedulingChoice.case === 'dynamicBatching') {
    const { defaultQueuePolicy, priorityQueuePolicy, priorityLevels, preserveOrdering } = schedulingChoice.value;
    if (defaultQueuePolicy !== undefined || Object.keys(priorityQueuePolicy).length > 0) refuse('the queue policy');
    if (priorityLevels > 0n) refuse('priority_levels');
    if (preserveOrdering) refuse('preserve_ordering');
  } else if (schedulingChoice.case !== undefined) {
    refuse(schedulingChoice.case.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
  }
  const instances = instanceGroup.reduce((sum, { count }) => sum + count, 0);
  if (instances > 1) refuse(`an instance_group of ${instances}`);
}

function checkTensor(
  what: 'input' | 'output',
  { name, dataType, dims }: ModelInput | ModelOutput,
  there: readonly Declared[],
  model: string,
): void {
  const own = there.find((tensor) => tensor.name === name);
  if (own === undefined) {
    const names = there.map((tensor) => tensor.name).join(', ');
    throw invalid(`model '${model}' has no ${what} '${name}'; it has ${names}`);
  }
  const fits = own.dims.length === dims.length && own.dims.every((dim, i) => dim === Number(dims[i]) || dim === -1);
  if (fits && own.datatypes.some((datatype) => typeOf(datatype) === dataType)) return;
  const expected = `${configType(own.datatypes[0])} with dims [${own.dims.join(', ')}]`;
  throw invalid(
    `${what} '${name}' of model '${model}' is ${expected}, not ${ConfigType[dataType]} [${dims.join(', ')}]`,
  );
}

function typeOf(datatype: DataType): ConfigType {
  return ConfigType[configType(datatype) as keyof typeof ConfigType];
}
