import { Histogram, type Registry } from 'prom-client';
import type { ServedModel } from '@rose/engine';
import { collected } from './collected.ts';
import type { WatchedModel } from './metrics.ts';

const FIRST_TOKEN_SECONDS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const PER_TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
const REQUEST_SECONDS = [1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60];
/** 1, 2, 5, 10... up to contexts of today. */
const TOKENS = [0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

/** What Triton's vLLM backend reports of models that generate text, with its names and buckets: dashboards read them. */
export class VllmMetrics {
  readonly firstToken: Histogram;
  readonly perToken: Histogram;
  readonly #requestSeconds: Histogram;
  readonly #promptTokens: Histogram;
  readonly #generatedTokens: Histogram;

  constructor(watched: ReadonlySet<WatchedModel>, registry: Registry) {
    const histogram = (name: string, help: string, buckets: number[]): Histogram =>
      new Histogram({ name: `vllm:${name}`, help, buckets, labelNames: ['model', 'version'], registers: [registry] });
    const count = (name: string, help: string, read: (model: ServedModel) => number): void =>
      collected(registry, { name: `vllm:${name}`, help, type: 'counter' }, () =>
        [...watched]
          .filter(({ model }) => model.task === 'generate')
          .map(({ model, labels }) => ({ labels, value: read(model) })),
      );
    count('prompt_tokens_total', 'Number of prefill tokens processed', (model) => model.counters.promptTokens);
    count('generation_tokens_total', 'Number of generation tokens processed', (m) => m.counters.generatedTokens);
    this.firstToken = histogram('time_to_first_token_seconds', 'Time to first token in seconds', FIRST_TOKEN_SECONDS);
    this.perToken = histogram('time_per_output_token_seconds', 'Time per output token in seconds', PER_TOKEN_SECONDS);
    const whole = 'Duration of successful requests in seconds';
    this.#requestSeconds = histogram('e2e_request_latency_seconds', whole, REQUEST_SECONDS);
    this.#promptTokens = histogram('request_prompt_tokens', 'Tokens of a prompt', TOKENS);
    this.#generatedTokens = histogram('request_generation_tokens', "Tokens of a request's answers", TOKENS);
  }

  /** A request that was answered to its end. */
  succeed(labels: Record<string, string>, promptTokens: number, generatedTokens: number, seconds: number): void {
    this.#requestSeconds.observe(labels, seconds);
    this.#promptTokens.observe(labels, promptTokens);
    this.#generatedTokens.observe(labels, generatedTokens);
  }
}
