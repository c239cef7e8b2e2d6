import {
  RoseError,
  type EmbedRequest,
  type EmbedResult,
  type ErrorCode,
  type GenerateEvent,
  type GenerateRequest,
  type ModelHub,
  type ScoreRequest,
  type ScoreResult,
  type ServedModel,
} from '@rose/engine';
import type { FailureReason } from '../statistics/statistics.ts';
import { labelsOf, type Metrics } from './metrics.ts';

/** The same hub, with every request of every protocol measured. */
export function observe(hub: ModelHub, metrics: Metrics): ModelHub {
  const models = hub.models.map((model) => observeModel(model, metrics));
  return {
    models,
    stats: hub.stats,
    get: (name) => models[hub.models.indexOf(hub.get(name))],
    ready: () => hub.ready(),
    drain: (limitMs) => hub.drain(limitMs),
    close: () => hub.close(),
  };
}

function observeModel(model: ServedModel, metrics: Metrics): ServedModel {
  return {
    name: model.name,
    task: model.task,
    spec: model.spec,
    defaults: model.defaults,
    vocabulary: model.vocabulary,
    dialect: model.dialect,
    text: model.text,
    notes: model.notes,
    loadedAt: model.loadedAt,
    memory: model.memory,
    counters: model.counters,
    ready: () => model.ready(),
    generate: (request: GenerateRequest) => generate(model, request, metrics),
    embed: (request: EmbedRequest): Promise<EmbedResult> =>
      measure(model, metrics, request.inputs.length, () => model.embed(request)),
    score: (request: ScoreRequest): Promise<ScoreResult> =>
      measure(model, metrics, request.inputs.length, () => model.score(request)),
  };
}

async function measure<T>(model: ServedModel, metrics: Metrics, items: number, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  try {
    const result = await work();
    metrics.statisticsOf(model.name).firstResponseMs.add(performance.now() - started);
    succeed(model, metrics, items, started);
    return result;
  } catch (error) {
    fail(model, metrics, reasonOf(error), started);
    throw error;
  }
}

async function* generate(model: ServedModel, request: GenerateRequest, metrics: Metrics): AsyncIterable<GenerateEvent> {
  const started = performance.now();
  const labels = labelsOf(model);
  /** When each answer's latest token came. */
  const latest: number[] = [];
  let promptTokens = 0;
  let generatedTokens = 0;
  let first = true;
  let ended = false;
  try {
    for await (const event of model.generate(request)) {
      if (event.kind === 'delta' && event.tokens.length > 0) {
        const now = performance.now();
        if (first) {
          metrics.firstToken.observe(labels, (now - started) / 1000);
          metrics.statisticsOf(model.name).firstResponseMs.add(now - started);
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
      yield event;
    }
    ended = true;
    succeed(model, metrics, 1, started);
    metrics.vllm.succeed(labels, promptTokens, generatedTokens, (performance.now() - started) / 1000);
  } catch (error) {
    ended = true;
    fail(model, metrics, reasonOf(error), started);
    throw error;
  } finally {
    // The reader left before the end.
    if (!ended) fail(model, metrics, 'CANCELED', started);
  }
}

function succeed(model: ServedModel, metrics: Metrics, items: number, started: number): void {
  const labels = labelsOf(model);
  const milliseconds = performance.now() - started;
  metrics.requestSeconds.observe(labels, milliseconds / 1000);
  const ns = Math.round(milliseconds * 1e6);
  // The engine works on many requests at a time, and takes new ones in between: all of it counts as computing.
  metrics.statisticsOf(model.name).succeed(items, ns, 0, { computeInput: 0, computeInfer: ns, computeOutput: 0 });
}

function fail(model: ServedModel, metrics: Metrics, reason: FailureReason, started: number): void {
  metrics.statisticsOf(model.name).failed(Math.round((performance.now() - started) * 1e6), reason);
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
