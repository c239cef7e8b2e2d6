import {
  RoseError,
  type EmbedRequest,
  type EmbedResult,
  type ErrorCode,
  type GenerateEvent,
  type GenerateRequest,
  type ScoreRequest,
  type ScoreResult,
  type ServedModel,
} from '@rose/engine';
import type { FailureReason, ModelStatistics } from '../statistics/statistics.ts';
import type { Metrics, WatchedModel } from './metrics.ts';

/** A model whose requests are measured. */
export interface ObservedModel {
  readonly model: ServedModel;
  /** Report it no longer. */
  readonly end: () => void;
  /** Its engine, which is not the hub's, was started again. */
  readonly restarted: () => void;
}

/** @see observe */
export type ObserveModel = (model: ServedModel, version: string, statistics: ModelStatistics) => ObservedModel;

/**
 * Measure every request of every protocol to a model, and report what its engine counts.
 * @param statistics what Triton's clients are told of it
 */
export function observe(
  model: ServedModel,
  version: string,
  statistics: ModelStatistics,
  metrics: Metrics,
): ObservedModel {
  const watched = { model, labels: { model: model.name, version }, statistics };
  return { model: measured(watched, metrics), end: metrics.watch(watched), restarted: () => void metrics.restarts++ };
}

/** The same model, measured. */
function measured(watched: WatchedModel, metrics: Metrics): ServedModel {
  const { model } = watched;
  return {
    name: model.name,
    task: model.task,
    // What an engine that is started again has room for may be another.
    get spec() {
      return model.spec;
    },
    defaults: model.defaults,
    vocabulary: model.vocabulary,
    dialect: model.dialect,
    text: model.text,
    notes: model.notes,
    loadedAt: model.loadedAt,
    get memory() {
      return model.memory;
    },
    counters: model.counters,
    ready: () => model.ready(),
    generate: (request: GenerateRequest) => generate(watched, request, metrics),
    embed: (request: EmbedRequest): Promise<EmbedResult> =>
      measure(watched, metrics, request.inputs.length, () => model.embed(request)),
    score: (request: ScoreRequest): Promise<ScoreResult> =>
      measure(watched, metrics, request.inputs.length, () => model.score(request)),
  };
}

async function measure<T>(watched: WatchedModel, metrics: Metrics, items: number, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  try {
    const result = await work();
    watched.statistics.firstResponseMs.add(performance.now() - started);
    succeed(watched, metrics, items, started);
    return result;
  } catch (error) {
    fail(watched, reasonOf(error), started);
    throw error;
  }
}

async function* generate(
  watched: WatchedModel,
  request: GenerateRequest,
  metrics: Metrics,
): AsyncIterable<GenerateEvent> {
  const started = performance.now();
  const { labels } = watched;
  /** When each answer's latest token came. */
  const latest: number[] = [];
  let promptTokens = 0;
  let generatedTokens = 0;
  let first = true;
  let ended = false;
  const note = (event: GenerateEvent, now: number): void => {
    if (event.kind === 'delta' && event.tokens.length > 0) {
      if (first) {
        metrics.firstToken.observe(labels, (now - started) / 1000);
        watched.statistics.firstResponseMs.add(now - started);
        metrics.vllm.firstToken.observe(labels, (now - started) / 1000);
        first = false;
      }
      const before = latest[event.index];
      if (before !== undefined) {
        metrics.interToken.observe(labels, (now - before) / 1000);
        metrics.vllm.perToken.observe(labels, (now - before) / 1000);
      }
      latest[event.index] = now;
    } else if (event.kind === 'start') {
      promptTokens = event.promptTokens;
    } else if (event.kind === 'end') {
      generatedTokens += event.generatedTokens;
    }
  };
  try {
    for await (const event of watched.model.generate(request)) {
      const now = performance.now();
      try {
        yield event;
      } finally {
        // The client has it before it is counted.
        note(event, now);
      }
    }
    ended = true;
    succeed(watched, metrics, 1, started);
    metrics.vllm.succeed(labels, promptTokens, generatedTokens, (performance.now() - started) / 1000);
  } catch (error) {
    ended = true;
    fail(watched, reasonOf(error), started);
    throw error;
  } finally {
    // The reader left before the end.
    if (!ended) fail(watched, 'CANCELED', started);
  }
}

function succeed({ labels, statistics }: WatchedModel, metrics: Metrics, items: number, started: number): void {
  const milliseconds = performance.now() - started;
  metrics.requestSeconds.observe(labels, milliseconds / 1000);
  const ns = Math.round(milliseconds * 1e6);
  // The engine works on many requests at a time, and takes new ones in between: all of it counts as computing.
  statistics.succeed(items, ns, 0, { computeInput: 0, computeInfer: ns, computeOutput: 0 });
}

function fail({ statistics }: WatchedModel, reason: FailureReason, started: number): void {
  statistics.failed(Math.round((performance.now() - started) * 1e6), reason);
}

const REASONS: Readonly<Partial<Record<ErrorCode, FailureReason>>> = {
  overloaded: 'REJECTED',
  deadline: 'REJECTED',
  unavailable: 'BACKEND',
  internal: 'BACKEND',
  cancelled: 'CANCELED',
};

function reasonOf(error: unknown): FailureReason {
  return REASONS[RoseError.from(error).code] ?? 'OTHER';
}
