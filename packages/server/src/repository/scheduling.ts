import { assert } from '@rose/engine';
import {
  ModelQueuePolicy_TimeoutAction as TimeoutAction,
  type ModelConfig,
  type ModelQueuePolicy,
  type ModelSequenceBatching,
} from '../grpc/proto/model_config_pb.js';
import type { Batching } from '../scheduling/batching.ts';
import { NO_POLICY, type QueuePolicy } from '../scheduling/policy-queue.ts';
import { Scheduler, type JobQueue, type SchedulerOptions } from '../scheduling/scheduler.ts';
import { SequenceScheduler, type SequenceOptions } from '../scheduling/sequences.ts';
import { sequenceControls } from './sequence-controls.ts';
import type { SequenceStates } from './sequence-states.ts';

/**
 * The queue that a configuration asks for.
 * @param initial states that a sequence begins with
 */
export function jobQueue(config: ModelConfig, initial: SequenceStates['initial']): JobQueue {
  const { schedulingChoice } = config;
  if (schedulingChoice.case !== 'sequenceBatching') return new Scheduler(schedulerOptions(config));
  return new SequenceScheduler({ ...sequenceOptions(config), initial });
}

/** How sequences are scheduled. Throws where a configuration has none. */
export function sequenceOptions(config: ModelConfig): Omit<SequenceOptions, 'initial'> {
  assert(config.schedulingChoice.case === 'sequenceBatching', `${config.name} is no model of sequences`);
  const batching = config.schedulingChoice.value;
  const rows = Math.max(1, config.maxBatchSize);
  const { strategyChoice, maxSequenceIdleMicroseconds, iterativeSequence } = batching;
  const oldest = strategyChoice.case === 'oldest' ? strategyChoice.value : undefined;
  return {
    model: config.name,
    slots: oldest === undefined ? rows : oldest.maxCandidateSequences || rows,
    idle: Number(maxSequenceIdleMicroseconds) * 1000,
    iterative: iterativeSequence,
    controls: sequenceControls(config, batching),
    batching: { maxBatchSize: rows, ragged: raggedInputs(config), ...waitingFor(batching, rows) },
  };
}

/** Which batches go at once, and how long others may wait. */
function waitingFor({ strategyChoice }: ModelSequenceBatching, rows: number): Pick<Batching, 'preferred' | 'delay'> {
  const delay = Number(strategyChoice.value?.maxQueueDelayMicroseconds ?? 0n) * 1000;
  if (strategyChoice.case === 'oldest') {
    const { preferredBatchSize: preferred } = strategyChoice.value;
    return { preferred: preferred.length > 0 ? preferred : [rows], delay };
  }
  // Slots are waited for only until so many of them have a request.
  const share = strategyChoice.value?.minimumSlotUtilization ?? 0;
  if (share === 0 || delay === 0) return { preferred: [rows], delay: 0 };
  const enough = Math.max(1, Math.ceil(share * rows));
  return { preferred: Array.from({ length: rows - enough + 1 }, (_, i) => enough + i), delay };
}

function raggedInputs({ input }: ModelConfig): ReadonlySet<string> {
  return new Set(input.filter((one) => one.allowRaggedBatch).map(({ name }) => name));
}

function schedulerOptions(config: ModelConfig): SchedulerOptions {
  const { maxBatchSize, schedulingChoice } = config;
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
      ragged: raggedInputs(config),
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
