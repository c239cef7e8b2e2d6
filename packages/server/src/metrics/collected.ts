import type { Registry } from 'prom-client';

/** One line of a metric. */
export interface Sample {
  /** After the metric's name, as `_bucket` of a histogram. */
  readonly suffix?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** A metric whose numbers are kept elsewhere and read when metrics are asked for. Labels are printed in their order. */
export function collected(
  registry: Registry,
  { name, help, type }: { readonly name: string; readonly help: string; readonly type: MetricKind },
  read: () => Iterable<Sample>,
): void {
  const values = (): object[] =>
    [...read()].map(({ suffix = '', labels, value }) => ({ metricName: name + suffix, labels, value }));
  const metric = { name, help, get: async () => ({ name, help, type, values: values(), aggregator: 'sum' }) };
  // The library types only its own four classes, and uses no more of them than this.
  registry.registerMetric(metric as never);
}

type MetricKind = 'counter' | 'gauge' | 'histogram' | 'summary';
