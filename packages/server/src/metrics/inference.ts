import type { Registry } from 'prom-client';
import type { Distribution, Recent } from '../statistics/distribution.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import type { TritonModel } from '../triton/model.ts';
import { collected, type Sample } from './collected.ts';

/** Triton's own choice. */
const QUANTILES: readonly number[] = [0.5, 0.9, 0.95, 0.99, 0.999];

/** What Triton calls inferences, of every model that answers, read from its statistics when metrics are asked for. */
export function inferenceMetrics(registry: Registry, models: () => readonly TritonModel[]): void {
  const each = (
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    read: (statistics: ModelStatistics) => number | undefined,
  ): void =>
    collected(registry, { name, help, type }, () =>
      models().flatMap(({ name: model, version, statistics }) => {
        const value = read(statistics);
        return value === undefined ? [] : { labels: { model, version }, value };
      }),
    );
  const count = (name: string, help: string, read: (of: ModelStatistics) => number): void =>
    each('counter', name, help, read);
  const microseconds = ({ ns }: { readonly ns: number }): number => Math.round(ns / 1000);

  count('nv_inference_request_success', 'Number of successful inference requests', ({ success }) => success.count);
  failures(registry, models);
  count('nv_inference_count', 'Number of inferences, a batch counts its size', (of) => of.inferenceCount);
  count('nv_inference_exec_count', 'Number of batches that were executed', (of) => of.executionCount);
  const cumulative = (what: string): string => `Cumulative ${what} of successful requests in microseconds`;
  count('nv_inference_request_duration_us', cumulative('duration'), (of) => microseconds(of.success));
  count('nv_inference_queue_duration_us', cumulative('time in the queue'), (of) => microseconds(of.queue));
  count('nv_inference_compute_input_duration_us', cumulative('time for inputs'), (of) => microseconds(of.computeInput));
  count('nv_inference_compute_infer_duration_us', cumulative('time of the model'), (of) =>
    microseconds(of.computeInfer),
  );
  count('nv_inference_compute_output_duration_us', cumulative('time for outputs'), (of) =>
    microseconds(of.computeOutput),
  );
  const perModel = (what: string): string => `${what} in the response cache`;
  count('nv_cache_num_hits_per_model', perModel('Number of hits'), (of) => of.cacheHit.count);
  count('nv_cache_num_misses_per_model', perModel('Number of misses'), (of) => of.cacheMiss.count);
  count('nv_cache_hit_duration_per_model', perModel('Microseconds of hits'), (of) => microseconds(of.cacheHit));
  count('nv_cache_miss_duration_per_model', perModel('Microseconds of misses'), (of) => microseconds(of.cacheMiss));
  const pending = 'Number of requests that wait for execution';
  each('gauge', 'nv_inference_pending_request_count', pending, (of) => of.pending);
  each('gauge', 'nv_model_load_duration_secs', 'Seconds that loading the model took', (of) => of.loadSeconds);

  firstResponses(registry, models);
  summary('request', 'durations', (of) => of.recent.request);
  summary('queue', 'times in the queue', (of) => of.recent.queue);
  summary('compute_input', 'times for inputs', (of) => of.recent.computeInput);
  summary('compute_infer', 'times of the model', (of) => of.recent.computeInfer);
  summary('compute_output', 'times for outputs', (of) => of.recent.computeOutput);

  function summary(part: string, what: string, read: (statistics: ModelStatistics) => Recent): void {
    const help = `Quantiles of the ${what} of the latest 1024 successful requests in microseconds`;
    collected(registry, { name: `nv_inference_${part}_summary_us`, help, type: 'summary' }, () =>
      models().flatMap(({ name: model, version, statistics }) =>
        quantiles({ model, version }, read(statistics)).map(inMicroseconds),
      ),
    );
  }
}

/** Every reason is there, at 0, from the start; labels stand in the order in which Triton prints them. */
function failures(registry: Registry, models: () => readonly TritonModel[]): void {
  const help = 'Number of failed inference requests';
  collected(registry, { name: 'nv_inference_request_failure', help, type: 'counter' }, () =>
    models().flatMap(({ name: model, version, statistics }) =>
      Object.entries(statistics.failures).map(([reason, value]) => ({ labels: { model, reason, version }, value })),
    ),
  );
}

function firstResponses(registry: Registry, models: () => readonly TritonModel[]): void {
  const help = 'Duration from the request to the first response in milliseconds';
  collected(registry, { name: 'nv_inference_first_response_histogram_ms', help, type: 'histogram' }, () =>
    models().flatMap(({ name: model, version, statistics }) => buckets({ model, version }, statistics.firstResponseMs)),
  );
}

function buckets(labels: Sample['labels'], { bounds, counts, count, sum }: Distribution): Sample[] {
  let below = 0;
  return [
    ...bounds.map((le, i): Sample => ({ suffix: '_bucket', labels: { ...labels, le }, value: (below += counts[i]) })),
    { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: count },
    { suffix: '_sum', labels, value: sum },
    { suffix: '_count', labels, value: count },
  ];
}

function quantiles(labels: Sample['labels'], recent: Recent): Sample[] {
  const values = recent.quantiles(QUANTILES);
  return [
    ...QUANTILES.map((quantile, i): Sample => ({ labels: { ...labels, quantile }, value: values[i] })),
    { suffix: '_sum', labels, value: recent.sum },
    { suffix: '_count', labels, value: recent.count },
  ];
}

function inMicroseconds(sample: Sample): Sample {
  return sample.suffix === '_count' ? sample : { ...sample, value: Math.round(sample.value / 1000) };
}
