import {
  DataType,
  ModelInstanceGroup_Kind as Kind,
  ModelQueuePolicy_TimeoutAction as TimeoutAction,
  type ModelConfig,
  type ModelDynamicBatching,
  type ModelInput,
  type ModelOutput,
} from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';
import { checkEnsemble, ENSEMBLE_PLATFORM } from './check-ensemble.ts';
import { checkSequences } from './sequence-controls.ts';
import { refuseUnsupported } from './unsupported.ts';

/** Larger numbers are mistakes, or somebody who wants the server to run out of memory. */
const MOST_INSTANCES = 1024;
const MOST_LEVELS = 1024n;
const MOST_WARM_UP_REQUESTS = 65_536;

/** Refuse a configuration that makes no sense, with Triton's texts, and one that asks for what Rose does not do. */
export function checkConfig(config: ModelConfig): void {
  const { name, maxBatchSize, schedulingChoice } = config;
  if (maxBatchSize < 0) throw invalid(`'max_batch_size' must be non-negative value for ${name}`);
  for (const input of config.input) checkTensor('model input', input, maxBatchSize, name);
  for (const output of config.output) checkTensor('model output', output, maxBatchSize, name);
  checkUnique(name, 'input', config.input);
  checkUnique(name, 'output', config.output);
  if (schedulingChoice.case === 'dynamicBatching') checkBatching(config, schedulingChoice.value);
  if (schedulingChoice.case === 'sequenceBatching') checkSequences(config, schedulingChoice.value);
  if (schedulingChoice.case === 'ensembleScheduling') checkEnsemble(config, schedulingChoice.value);
  else if (config.platform === ENSEMBLE_PLATFORM) {
    throw invalid(`ensemble scheduling must be set for ensemble ${name} whose platform is ${ENSEMBLE_PLATFORM}`);
  }
  const { policyChoice } = config.versionPolicy ?? {};
  if (policyChoice?.case === 'latest' && policyChoice.value.numVersions === 0) {
    throw invalid(`'num_versions' of version_policy latest must be at least 1 for ${name}`);
  }
  for (const group of config.instanceGroup) {
    const which = `instance group ${group.name} of model ${name}`;
    if (group.count < 1) throw invalid(`'count' of ${which} must be at least 1, not ${group.count}`);
    if (group.kind === Kind.GPU) throw invalid(`${which} has kind KIND_GPU but no GPUs are available`);
    if (group.gpus.length > 0)
      throw invalid(`${which} has kind KIND_${Kind[group.kind]} but specifies one or more GPUs`);
  }
  checkCache(config);
  for (const { name: sample, batchSize } of config.modelWarmup) {
    if (batchSize <= MOST_WARM_UP_REQUESTS) continue;
    throw invalid(`'batch_size' of model_warmup '${sample}' must be at most ${MOST_WARM_UP_REQUESTS} for ${name}`);
  }
  const instances = config.instanceGroup.reduce((sum, { count }) => sum + count, 0);
  if (instances > MOST_INSTANCES) throw invalid(`${instances} instances are more than ${MOST_INSTANCES} for ${name}`);
  checkFileName(config.defaultModelFilename, 'default_model_filename', 'version');
  for (const output of config.output) checkFileName(output.labelFilename, 'label_filename', 'model');
  refuseUnsupported(config);
}

/** Triton's texts. An ensemble's own policy is known once its parts are. */
export function checkCache({ name, responseCache, schedulingChoice, modelTransactionPolicy }: ModelConfig): void {
  if (responseCache?.enable !== true) return;
  const refuse = (what: string): never => {
    throw invalid(
      `Response Cache does not currently support model ${name} with ${what}. Please disable the response cache.`,
    );
  };
  if (schedulingChoice.case === 'sequenceBatching') refuse('sequence batching scheduler');
  if (modelTransactionPolicy?.decoupled === true) refuse("'decoupled' transaction policy");
}

/** A file of the model's directory that the configuration names must lie there. */
function checkFileName(file: string, field: string, whose: 'model' | 'version'): void {
  if (file.split(/[/\\]/).includes('..') || /^[/\\]|\0/.test(file)) {
    throw invalid(`${field} '${file}' must stay within the ${whose}'s directory`);
  }
}

function checkTensor(what: string, tensor: ModelInput | ModelOutput, maxBatchSize: number, model: string): void {
  const fail = (problem: string): never => {
    throw invalid(`${what} ${problem} for ${model}`);
  };
  if (tensor.name === '') fail("must specify 'name'");
  const which = `'${tensor.name}'`;
  if (tensor.dataType === DataType.TYPE_INVALID) fail(`${which} must specify 'data_type'`);
  if (tensor.dims.length === 0) fail(`${which} must specify 'dims'`);
  if (tensor.dims.some((dim) => dim < 1n && dim !== -1n)) {
    fail(`${which} dimension must be integer >= 1, or -1 to indicate a variable-size dimension`);
  }
  const large = tensor.dims.find((dim) => dim > Number.MAX_SAFE_INTEGER);
  if (large !== undefined) fail(`${which} has the dimension ${large}, which is more than ${Number.MAX_SAFE_INTEGER},`);
  if (tensor.isShapeTensor) fail(`${which} is a shape tensor: shape tensors are only supported for TensorRT platform`);
  const { reshape } = tensor;
  if (reshape === undefined) return;
  if (maxBatchSize === 0 && reshape.shape.length === 0) {
    fail(`${which} cannot have empty reshape for non-batching model as scalar tensors are not supported`);
  }
  const free = (dims: readonly bigint[]): number => dims.filter((dim) => dim === -1n).length;
  const size = (dims: readonly bigint[]): bigint => dims.reduce((product, dim) => product * (dim < 0n ? 1n : dim), 1n);
  if (free(reshape.shape) !== free(tensor.dims)) {
    fail(`${which} has different number of variable-size dimensions for dims and reshape`);
  }
  if (size(reshape.shape) !== size(tensor.dims)) fail(`${which} has different size for dims and reshape`);
}

function checkUnique(model: string, what: string, tensors: readonly { readonly name: string }[]): void {
  const names = tensors.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw invalid(`${what} '${twice}' is specified twice for ${model}`);
}

function checkBatching({ name, maxBatchSize }: ModelConfig, batching: ModelDynamicBatching): void {
  if (maxBatchSize === 0) throw invalid(`dynamic batching needs a 'max_batch_size' of at least 1 for ${name}`);
  for (const size of batching.preferredBatchSize) {
    if (size <= 0) throw invalid(`dynamic batching preferred size must be positive for ${name}`);
    if (size > maxBatchSize) throw invalid(`dynamic batching preferred size must be <= max batch size for ${name}`);
  }
  const levels = batching.priorityLevels;
  if (levels > MOST_LEVELS) throw invalid(`'priority_levels' must be at most ${MOST_LEVELS} for ${name}`);
  if (levels > 0n && (batching.defaultPriorityLevel < 1n || batching.defaultPriorityLevel > levels)) {
    throw invalid(`default priority level must be in range [1, ${levels}] for ${name}`);
  }
  for (const level of Object.keys(batching.priorityQueuePolicy)) {
    if (BigInt(level) < 1n || BigInt(level) > levels) {
      throw invalid(`priority queue policy must have priority level in range [1, ${levels}] for ${name}`);
    }
  }
  if (!batching.preserveOrdering) return;
  if (levels > 1n) throw invalid(`Only one priority level is allowed when 'preserve_ordering' is true for ${name}`);
  const policies = [batching.defaultQueuePolicy, ...Object.values(batching.priorityQueuePolicy)];
  if (policies.some((policy) => policy?.timeoutAction === TimeoutAction.DELAY)) {
    throw invalid(`Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for ${name}`);
  }
}
