import type { ServedModel, Task } from '@rose/engine';
import type { ModelStatistics } from '../statistics/statistics.ts';
import { embedding } from './embed.ts';
import { generating } from './generate.ts';
import { builtinConfig, BUILTIN_BACKEND } from './metadata.ts';
import type { ModelRequest, ModelResponse, ModelSignature, TritonModel } from './model.ts';
import { scoring } from './score.ts';

/** What is known of a model before an engine runs it. */
export type DescribedModel = Pick<ServedModel, 'name' | 'task' | 'spec'>;

/** A model of an engine in Triton's words. */
export interface BuiltinSignature extends ModelSignature {
  /** Facts for people, shown in the model's configuration. */
  readonly facts: Readonly<Record<string, string>>;
}

/** How models of one task are asked over Triton's protocols. */
export interface BuiltinTask {
  describe(model: DescribedModel): BuiltinSignature;
  run(model: ServedModel, request: ModelRequest): AsyncIterable<ModelResponse>;
}

/** How an engine's models are asked, by what they are for. */
export const BUILTIN_TASKS: Readonly<Record<Task, BuiltinTask>> = {
  generate: generating,
  embed: embedding,
  score: scoring,
};

/** A model of the hub. It has the one version 1. */
export function builtinModel(model: ServedModel, statistics: ModelStatistics): TritonModel {
  const task = BUILTIN_TASKS[model.task];
  const signature = task.describe(model);
  return {
    ...signature,
    version: '1',
    platform: BUILTIN_BACKEND,
    config: () => builtinConfig(signature),
    ready: () => model.ready(),
    // They stay as long as the server.
    hold: () => () => {},
    run: (request) => {
      const responses = task.run(model, request);
      return signature.decoupled ? countResponses(responses, statistics) : responses;
    },
    get statistics() {
      return engineStatistics(model, statistics);
    },
  };
}

/** What an engine counts itself, since it batches on its own, beside what is counted here. */
export function engineStatistics({ counters }: ServedModel, statistics: ModelStatistics): ModelStatistics {
  statistics.executionCount = counters.steps;
  statistics.pending = counters.waiting;
  return statistics;
}

/** Count the responses of a request that may have any number of them. */
export async function* countResponses(
  responses: AsyncIterable<ModelResponse>,
  statistics: ModelStatistics,
): AsyncIterable<ModelResponse> {
  let index = 0;
  let before = performance.now();
  for await (const response of responses) {
    const at = performance.now();
    try {
      yield response;
    } finally {
      // The client has it before it is counted.
      statistics.responded(index++, 'success', Math.round((at - before) * 1e6), 0);
      before = at;
    }
  }
}
