import { create } from '@bufbuild/protobuf';
import { fromText } from '@bufbuild/protobuf/txtpb';
import {
  ModelConfigSchema,
  ModelInstanceGroup_Kind as Kind,
  ModelInstanceGroupSchema,
  ModelOptimizationPolicySchema,
  ModelOptimizationPolicy_PinnedMemoryBufferSchema as PinnedMemorySchema,
  ModelVersionPolicySchema,
  type ModelConfig,
} from '../grpc/proto/model_config_pb.js';
import { invalid } from '../triton/errors.ts';
import { configFromJson } from './config-json.ts';

/** A sequence that is silent for so long is over, unless its model says otherwise. */
const DEFAULT_IDLE_MICROSECONDS = 1_000_000n;

/**
 * Read a configuration in protobuf's text format.
 * @param file for messages
 * @throws TritonError that names the line
 */
export function parseConfig(text: string, file: string): ModelConfig {
  try {
    return fromText(ModelConfigSchema, text);
  } catch (error) {
    const { message } = error as Error;
    throw invalid(`failed to read text proto from ${file}: line ${lineOf(text, message)}: ${message}`);
  }
}

/**
 * The parser says what is wrong but not where: it is in the last line of the shortest beginning with that error. It reads
 * from front to back, so every longer beginning has that error, too.
 */
function lineOf(text: string, message: string): number {
  const lines = text.split('\n');
  const fails = (count: number): boolean => {
    try {
      fromText(ModelConfigSchema, lines.slice(0, count).join('\n'));
      return false;
    } catch (error) {
      return (error as Error).message === message;
    }
  };
  let [good, bad] = [0, lines.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (fails(middle)) bad = middle;
    else good = middle;
  }
  return bad;
}

/** Read a configuration in protobuf's JSON, as a load request brings it. */
export function parseConfigOverride(text: string): ModelConfig {
  // A double would round them; as texts, which protobuf's JSON has for them, too, they stay what they are.
  const large: string[] = [];
  let json: unknown;
  try {
    json = JSON.parse(text, (_: string, value: unknown, { source = '' }: { readonly source?: string } = {}) => {
      if (typeof value !== 'number' || Number.isSafeInteger(value) || !/^-?\d+$/.test(source)) return value;
      large.push(source);
      return source;
    });
  } catch (error) {
    throw invalid(`Invalid config override: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null) throw invalid('Invalid config override: it must be a JSON object');
  try {
    return configFromJson(json, 'Invalid config override: the text');
  } catch (error) {
    // The parser of 32-bit fields rounds what it refuses.
    const { message } = error as Error;
    throw invalid(large.reduce((exact, source) => exact.replace(String(Number(source)), source), message));
  }
}

/** The configuration of a model that has no `config.pbtxt`. */
export function emptyConfig(): ModelConfig {
  return create(ModelConfigSchema);
}

/** Fill in what Triton fills in. Changes `config`. */
export function completeConfig(config: ModelConfig, name: string, backend: string): ModelConfig {
  config.name ||= name;
  if (config.backend === '' && config.platform === '') config.backend = backend;
  config.versionPolicy ??= create(ModelVersionPolicySchema, {
    policyChoice: { case: 'latest', value: { numVersions: 1 } },
  });
  // What follows is about a model's own execution; an ensemble has none.
  if (config.schedulingChoice.case === 'ensembleScheduling') return config;
  config.optimization ??= create(ModelOptimizationPolicySchema);
  config.optimization.inputPinnedMemory ??= create(PinnedMemorySchema, { enable: true });
  config.optimization.outputPinnedMemory ??= create(PinnedMemorySchema, { enable: true });
  const { schedulingChoice } = config;
  if (schedulingChoice.case === 'dynamicBatching') {
    const { value } = schedulingChoice;
    if (value.preferredBatchSize.length === 0 && config.maxBatchSize > 0) {
      value.preferredBatchSize.push(config.maxBatchSize);
    }
  } else if (schedulingChoice.case === 'sequenceBatching') {
    schedulingChoice.value.maxSequenceIdleMicroseconds ||= DEFAULT_IDLE_MICROSECONDS;
  }
  completeInstances(config);
  return config;
}

function completeInstances(config: ModelConfig): void {
  if (config.instanceGroup.length === 0) {
    config.instanceGroup.push(create(ModelInstanceGroupSchema, { name: config.name }));
  }
  config.instanceGroup.forEach((group, i) => {
    group.name ||= `${config.name}_${i}`;
    if (group.kind === Kind.AUTO) group.kind = Kind.CPU;
    if (group.count === 0) group.count = 1;
  });
}
