import type { ServedModel } from '@rose/engine';
import type { ModelStatistics } from '../statistics/statistics.ts';
import { embeddingModel } from './embed.ts';
import { generatingModel } from './generate.ts';
import { builtinConfig, BUILTIN_BACKEND } from './metadata.ts';
import type { RunnableModel, TritonModel } from './model.ts';
import { scoringModel } from './score.ts';

/** A model that the engine runs, as Triton's clients see it. */
export interface BuiltinModel extends RunnableModel {
  /** Facts for people, shown in the model's configuration. */
  readonly facts: Readonly<Record<string, string>>;
}

/** A model of the hub. It has the one version 1. */
export function builtinModel(model: ServedModel, statistics: ModelStatistics): TritonModel {
  const make = { generate: generatingModel, embed: embeddingModel, score: scoringModel };
  const answering = make[model.task](model);
  return {
    ...answering,
    version: '1',
    platform: BUILTIN_BACKEND,
    config: () => builtinConfig(answering),
    ready: () => model.ready(),
    // They stay as long as the server.
    hold: () => () => {},
    get statistics() {
      // The engine batches on its own; these it counts itself.
      statistics.executionCount = model.counters.steps;
      statistics.pending = model.counters.waiting;
      return statistics;
    },
  };
}
