import { existsSync } from 'node:fs';
import { Option, type Command } from 'commander';
import type { ServerOptions } from '@rose/server';
import { CommandError, ExitCode } from './errors.ts';
import { integer } from './options.ts';

/** What the command line says of metrics. */
export interface MetricsFlags {
  allowMetrics: 'true' | 'false';
  /** Undefined: the port two after HTTP's. */
  metricsPort?: number;
  metricsAddress?: string;
  metricsIntervalMs: number;
  httpMetrics?: boolean;
}

export function addMetricsOptions(command: Command): Command {
  return command
    .addOption(new Option('--allow-metrics <boolean>', 'serve metrics').choices(['true', 'false']).default('true'))
    .option(
      '--metrics-port <number>',
      'port of metrics alone; 0 takes a free one (default: two after --port)',
      integer(0, 65_535),
    )
    .option('--metrics-address <address>', 'address that port listens on (default: the one of --host)')
    .option('--metrics-interval-ms <n>', 'milliseconds between two samples of the machine', integer(1, 3_600_000), 2000)
    .option('--http-metrics', 'serve /metrics on --port too');
}

/** Triton's ports follow one another: 8000, 8001 for gRPC, 8002 for metrics. */
export function metricsOptions(
  { allowMetrics, metricsPort, metricsAddress, metricsIntervalMs, httpMetrics = false }: MetricsFlags,
  httpPort: number,
): NonNullable<ServerOptions['metrics']> {
  if (allowMetrics === 'false') {
    const set = [
      metricsPort !== undefined && '--metrics-port',
      metricsAddress !== undefined && '--metrics-address',
      httpMetrics && '--http-metrics',
    ].find((name) => name !== false);
    if (set === undefined) return {};
    throw new CommandError(ExitCode.usage, `${set} and --allow-metrics false contradict each other: leave one out.`);
  }
  const port = metricsPort ?? (httpPort === 0 ? 0 : httpPort + 2);
  if (port > 65_535) {
    throw new CommandError(ExitCode.usage, 'there is no port after 65535 for metrics: name one with --metrics-port.');
  }
  return {
    port,
    intervalMs: metricsIntervalMs,
    onHttp: httpMetrics,
    ...(metricsAddress !== undefined && { host: metricsAddress }),
  };
}

/** Readings of the machine's GPUs, for their metrics; undefined: there are none. */
export async function gpuReadings(): Promise<NonNullable<ServerOptions['metrics']>['gpus']> {
  // Where the driver is not loaded, no library needs to be looked for.
  if (process.platform === 'linux' && !existsSync('/dev/nvidiactl')) return undefined;
  const { GpuMonitor } = await import('@rose/cuda');
  const monitor = GpuMonitor.open();
  return monitor && (() => monitor.read());
}
