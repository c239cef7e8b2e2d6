import { Histogram, Registry } from 'prom-client';
import type { ModelHub, ServedModel } from '@rose/engine';
import type { ModelStatistics } from '../statistics/statistics.ts';
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

/** A model of an engine under the labels that its numbers bear. */
export interface WatchedModel {
  readonly model: ServedModel;
  readonly labels: ModelLabels;
  readonly statistics: ModelStatistics;
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

  readonly #watched: Set<WatchedModel> = new Set();
  /** Restarts of engines that are not the hub's. */
  restarts = 0;

  constructor(hub: Pick<ModelHub, 'stats'>) {
    this.vllm = new VllmMetrics(this.#watched, this.registry);
    this.#readEach('rose_batch_sequences_total', 'Sequences in all batches', (m) => m.counters.stepSequences);
    this.#readEach('rose_prompt_tokens_total', 'Tokens of prompts', (m) => m.counters.promptTokens);
    const cached = 'Prompt tokens that had been computed for an earlier request';
    this.#readEach('rose_cached_tokens_total', cached, (m) => m.counters.cachedTokens);
    const yielded = 'Sequences that gave their pages back because those ran out, and were computed anew';
    this.#readEach('rose_preemptions_total', yielded, (m) => m.counters.preemptions);
    const turns = 'Sequences that gave their place to another tenant or a higher priority for a while';
    this.#readEach('rose_turns_total', turns, (m) => m.counters.turns);
    const failures = 'Steps of the engine that failed, whether or not a request did because of it';
    this.#readEach('rose_step_failures_total', failures, (m) => m.counters.stepFailures);
    this.#readEach('rose_generated_tokens_total', 'Tokens generated', (m) => m.counters.generatedTokens);
    const restarts = 'Engines that were started in the place of one that was lost';
    const total = { name: 'rose_engine_restarts_total', help: restarts, type: 'counter' } as const;
    collected(this.registry, total, () => [{ labels: {}, value: hub.stats.restarts + this.restarts }]);
    this.#watchEach('rose_sequences_waiting', 'Sequences that wait', (m) => m.counters.waiting);
    this.#watchEach('rose_sequences_running', 'Sequences that run', (m) => m.counters.running);
    const kept = 'Pages of keys and values kept for prompts to come';
    this.#watchEach('rose_pages_used', 'Pages of keys and values in use', (m) => m.counters.usedPages);
    this.#watchEach('rose_pages_cached', kept, (m) => m.counters.cachedPages);
    this.#watchEach('rose_pages', 'Pages of keys and values there are', (m) => m.counters.pages);
    this.#watchEach('rose_weight_bytes', 'Bytes of weights on the device', (m) => m.memory.weights);
    this.#watchEach('rose_sequence_bytes', 'Bytes of sequence memory on the device', (m) => m.memory.sequences);
  }

  /** Report what the engine counts of a model, until the function that is returned is called. */
  watch(watched: WatchedModel): () => void {
    this.#watched.add(watched);
    return () => this.#watched.delete(watched);
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name, help, buckets, labelNames: ['model', 'version'], registers: [this.registry] });
  }

  /** A counter that the engine keeps: read when metrics are asked for. */
  #readEach(name: string, help: string, read: (model: ServedModel) => number): void {
    this.#collect({ name, help, type: 'counter' }, read);
  }

  #watchEach(name: string, help: string, read: (model: ServedModel) => number): void {
    this.#collect({ name, help, type: 'gauge' }, read);
  }

  #collect(
    metric: { name: string; help: string; type: 'counter' | 'gauge' },
    read: (model: ServedModel) => number,
  ): void {
    collected(this.registry, metric, () =>
      [...this.#watched].map(({ model, labels }) => ({ labels, value: read(model) })),
    );
  }
}
