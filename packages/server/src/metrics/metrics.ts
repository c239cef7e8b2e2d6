import { Histogram, Registry } from 'prom-client';
import type { ModelHub, ServedModel } from '@rose/engine';
import { ModelStatistics } from '../statistics/statistics.ts';
import { collected } from './collected.ts';
import { VllmMetrics } from './vllm.ts';

const FIRST_TOKEN_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
const INTER_TOKEN_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2];
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

/** Labels in the order in which Triton prints them. */
interface ModelLabels extends Record<string, string> {
  readonly model: string;
  readonly version: string;
}

/** One server's metrics: Triton's names for what Triton also counts, Rose's own for the rest. */
export class Metrics {
  readonly registry: Registry = new Registry();
  readonly firstToken: Histogram = this.#histogram(
    'rose_time_to_first_token_seconds',
    'Duration from the request to its first token',
    FIRST_TOKEN_SECONDS,
  );
  readonly interToken: Histogram = this.#histogram(
    'rose_inter_token_seconds',
    'Duration between one token of an answer and the next',
    INTER_TOKEN_SECONDS,
  );
  readonly requestSeconds: Histogram = this.#histogram(
    'rose_request_seconds',
    'Duration of successful requests',
    REQUEST_SECONDS,
  );

  readonly vllm: VllmMetrics;

  readonly #statistics: Map<string, ModelStatistics> = new Map();

  constructor(hub: ModelHub) {
    this.vllm = new VllmMetrics(hub, this.registry);
    this.#readEach(hub, 'rose_batch_sequences_total', 'Sequences in all batches', (m) => m.counters.stepSequences);
    this.#readEach(hub, 'rose_prompt_tokens_total', 'Tokens of prompts', (m) => m.counters.promptTokens);
    const cached = 'Prompt tokens that had been computed for an earlier request';
    this.#readEach(hub, 'rose_cached_tokens_total', cached, (m) => m.counters.cachedTokens);
    const yielded = 'Sequences that gave their pages back because those ran out, and were computed anew';
    this.#readEach(hub, 'rose_preemptions_total', yielded, (m) => m.counters.preemptions);
    const turns = 'Sequences that gave their place to another tenant or a higher priority for a while';
    this.#readEach(hub, 'rose_turns_total', turns, (m) => m.counters.turns);
    const failures = 'Steps of the engine that failed, whether or not a request did because of it';
    this.#readEach(hub, 'rose_step_failures_total', failures, (m) => m.counters.stepFailures);
    this.#readEach(hub, 'rose_generated_tokens_total', 'Tokens generated', (m) => m.counters.generatedTokens);
    const restarts = 'Engines that were started in the place of one that was lost';
    const total = { name: 'rose_engine_restarts_total', help: restarts, type: 'counter' } as const;
    collected(this.registry, total, () => [{ labels: {}, value: hub.stats.restarts }]);
    this.#watchEach(hub, 'rose_sequences_waiting', 'Sequences that wait', (m) => m.counters.waiting);
    this.#watchEach(hub, 'rose_sequences_running', 'Sequences that run', (m) => m.counters.running);
    const kept = 'Pages of keys and values kept for prompts to come';
    this.#watchEach(hub, 'rose_pages_used', 'Pages of keys and values in use', (m) => m.counters.usedPages);
    this.#watchEach(hub, 'rose_pages_cached', kept, (m) => m.counters.cachedPages);
    this.#watchEach(hub, 'rose_pages', 'Pages of keys and values there are', (m) => m.counters.pages);
    this.#watchEach(hub, 'rose_weight_bytes', 'Bytes of weights on the device', (m) => m.memory.weights);
    this.#watchEach(hub, 'rose_sequence_bytes', 'Bytes of sequence memory on the device', (m) => m.memory.sequences);
  }

  /** The statistics of a model of the hub. */
  statisticsOf(name: string): ModelStatistics {
    let statistics = this.#statistics.get(name);
    if (statistics === undefined) {
      statistics = new ModelStatistics();
      this.#statistics.set(name, statistics);
    }
    return statistics;
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name, help, buckets, labelNames: ['model', 'version'], registers: [this.registry] });
  }

  /** A counter that the engine keeps: read when metrics are asked for. */
  #readEach(hub: ModelHub, name: string, help: string, read: (model: ServedModel) => number): void {
    this.#collect(hub, { name, help, type: 'counter' }, read);
  }

  #watchEach(hub: ModelHub, name: string, help: string, read: (model: ServedModel) => number): void {
    this.#collect(hub, { name, help, type: 'gauge' }, read);
  }

  #collect(
    hub: ModelHub,
    metric: { name: string; help: string; type: 'counter' | 'gauge' },
    read: (model: ServedModel) => number,
  ): void {
    collected(this.registry, metric, () =>
      hub.models.map((model) => ({ labels: labelsOf(model), value: read(model) })),
    );
  }
}

export function labelsOf(model: ServedModel): ModelLabels {
  return { model: model.name, version: '1' };
}
