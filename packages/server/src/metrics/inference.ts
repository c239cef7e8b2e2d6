import { Counter, Gauge, type Registry } from 'prom-client';
import type { ModelStatistics } from '../statistics/statistics.ts';
import type { TritonModel } from '../triton/model.ts';

/** What Triton calls inferences, of every model that answers, read from its statistics when metrics are asked for. */
export function inferenceMetrics(registry: Registry, models: () => readonly TritonModel[]): void {
  const each = (name: string, help: string, read: (statistics: ModelStatistics) => number): void => {
    const counter: Counter = new Counter({
      name,
      help,
      labelNames: ['model', 'version'],
      registers: [registry],
      collect: () => {
        counter.reset();
        for (const { name, version, statistics } of models()) counter.inc({ model: name, version }, read(statistics));
      },
    });
  };
  const microseconds = ({ ns }: { readonly ns: number }): number => Math.round(ns / 1000);
  each('nv_inference_request_success', 'Number of successful inference requests', ({ success }) => success.count);
  failures(registry, models);
  each('nv_inference_count', 'Number of inferences, a batch counts its size', (of) => of.inferenceCount);
  each('nv_inference_exec_count', 'Number of batches that were executed', (of) => of.executionCount);
  const cumulative = (what: string): string => `Cumulative ${what} of successful requests in microseconds`;
  each('nv_inference_request_duration_us', cumulative('duration'), (of) => microseconds(of.success));
  each('nv_inference_queue_duration_us', cumulative('time in the queue'), (of) => microseconds(of.queue));
  each('nv_inference_compute_input_duration_us', cumulative('time for inputs'), (of) => microseconds(of.computeInput));
  each('nv_inference_compute_infer_duration_us', cumulative('time of the model'), (of) =>
    microseconds(of.computeInfer),
  );
  each('nv_inference_compute_output_duration_us', cumulative('time for outputs'), (of) =>
    microseconds(of.computeOutput),
  );
  const pending: Gauge = new Gauge({
    name: 'nv_inference_pending_request_count',
    help: 'Number of requests that wait for execution',
    labelNames: ['model', 'version'],
    registers: [registry],
    collect: () => {
      pending.reset();
      for (const { name, version, statistics } of models()) pending.set({ model: name, version }, statistics.pending);
    },
  });
}

/** Every reason is there, at 0, from the start; labels stand in the order in which Triton prints them. */
function failures(registry: Registry, models: () => readonly TritonModel[]): void {
  const counter: Counter = new Counter({
    name: 'nv_inference_request_failure',
    help: 'Number of failed inference requests',
    labelNames: ['model', 'reason', 'version'],
    registers: [registry],
    collect: () => {
      counter.reset();
      for (const { name, version, statistics } of models()) {
        for (const [reason, count] of Object.entries(statistics.failures)) {
          counter.inc({ model: name, reason, version }, count);
        }
      }
    },
  });
}
