import {
  ModelQueuePolicy_TimeoutAction as TimeoutAction,
  type ModelConfig,
  type ModelQueuePolicy,
  type ModelSequenceBatching,
} from '../grpc/proto/model_config_pb.js';
import { NO_POLICY, type QueuePolicy } from '../scheduling/policy-queue.ts';
import { Scheduler, type JobQueue, type SchedulerOptions } from '../scheduling/scheduler.ts';
import { SequenceScheduler, type SequenceOptions } from '../scheduling/sequences.ts';

/** The queue that a configuration asks for. */
export function jobQueue(config: ModelConfig): JobQueue {
  const { schedulingChoice } = config;
  if (schedulingChoice.case !== 'sequenceBatching') return new Scheduler(schedulerOptions(config));
  return new SequenceScheduler(sequenceOptions(config, schedulingChoice.value));
}

function sequenceOptions(
  { name, maxBatchSize }: ModelConfig,
  { strategyChoice, maxSequenceIdleMicroseconds }: ModelSequenceBatching,
): SequenceOptions {
  const rows = Math.max(1, maxBatchSize);
  const oldest = strategyChoice.case === 'oldest' ? strategyChoice.value : undefined;
  const delay = strategyChoice.value?.maxQueueDelayMicroseconds ?? 0n;
  const preferred = oldest?.preferredBatchSize ?? [];
  return {
    model: name,
    slots: oldest === undefined ? rows : oldest.maxCandidateSequences || rows,
    idle: Number(maxSequenceIdleMicroseconds) * 1000,
    batching: {
      maxBatchSize: rows,
      preferred: preferred.length > 0 ? preferred : [rows],
      delay: Number(delay) * 1000,
      ragged: new Set(),
    },
  };
}

function schedulerOptions({ maxBatchSize, schedulingChoice, input }: ModelConfig): SchedulerOptions {
  if (schedulingChoice.case !== 'dynamicBatching') {
    return { batching: undefined, policies: [NO_POLICY], defaultLevel: 1 };
  }
  const { value } = schedulingChoice;
  const levels = Math.max(1, Number(value.priorityLevels));
  const policies = Array.from({ length: levels }, (_, i) =>
    policyOf(value.priorityQueuePolicy[String(i + 1)] ?? value.defaultQueuePolicy),
  );
  return {
    batching: {
      maxBatchSize,
      preferred: value.preferredBatchSize,
      delay: Number(value.maxQueueDelayMicroseconds) * 1000,
      ragged: new Set(input.filter((one) => one.allowRaggedBatch).map(({ name }) => name)),
    },
    policies: policies as [QueuePolicy, ...QueuePolicy[]],
    defaultLevel: Math.max(1, Number(value.defaultPriorityLevel)),
  };
}

function policyOf(policy: ModelQueuePolicy | undefined): QueuePolicy {
  if (policy === undefined) return NO_POLICY;
  return {
    action: policy.timeoutAction === TimeoutAction.DELAY ? 'delay' : 'reject',
    timeout: Number(policy.defaultTimeoutMicroseconds) * 1000,
    allowOverride: policy.allowTimeoutOverride,
    maxSize: policy.maxQueueSize,
  };
}
