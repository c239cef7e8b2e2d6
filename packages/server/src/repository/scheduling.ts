import {
  ModelQueuePolicy_TimeoutAction as TimeoutAction,
  type ModelConfig,
  type ModelQueuePolicy,
} from '../grpc/proto/model_config_pb.js';
import { NO_POLICY, type QueuePolicy } from '../scheduling/policy-queue.ts';
import type { SchedulerOptions } from '../scheduling/scheduler.ts';

/** How a configuration has requests wait and batched together. */
export function schedulerOptions({ maxBatchSize, schedulingChoice, input }: ModelConfig): SchedulerOptions {
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
