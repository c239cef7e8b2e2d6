import { cpus, freemem, totalmem } from 'node:os';
import type { Registry } from 'prom-client';
import { collected } from './collected.ts';

/** What a GPU says of itself. What it does not say is undefined. */
export interface GpuReading {
  /** `GPU-...`, NVIDIA's. */
  readonly uuid: string;
  /** 0 to 1. */
  readonly utilization: number | undefined;
  readonly totalBytes: number | undefined;
  readonly usedBytes: number | undefined;
  /** Watts. */
  readonly power: number | undefined;
  /** Watts. */
  readonly powerLimit: number | undefined;
  /** Joules since the server's start. */
  readonly energy: number | undefined;
}

export interface MachineOptions {
  /** Milliseconds between two samples. */
  readonly intervalMs: number;
  /** Reads the GPUs there are. Default: there are none. */
  readonly gpus?: () => readonly GpuReading[];
}

/** Metrics of the machine, under Triton's names, as of the last sample. Ends when told to. */
export function machineMetrics(registry: Registry, { intervalMs, gpus }: MachineOptions): () => void {
  let before = processorTimes();
  let utilization = 0;
  let used = totalmem() - freemem();
  let readings = gpus?.() ?? [];
  const sample = (): void => {
    const now = processorTimes();
    // Times of the system advance in steps of their own: none may have passed.
    if (now.total > before.total) utilization = (now.busy - before.busy) / (now.total - before.total);
    before = now;
    used = totalmem() - freemem();
    readings = gpus?.() ?? [];
  };
  const timer = setInterval(sample, intervalMs);
  timer.unref();

  const gauge = (name: string, help: string, read: () => number): void =>
    collected(registry, { name, help, type: 'gauge' }, () => [{ labels: {}, value: read() }]);
  gauge('nv_cpu_utilization', 'CPU utilization rate [0.0 - 1.0]', () => utilization);
  gauge('nv_cpu_memory_total_bytes', 'CPU total memory (RAM), in bytes', totalmem);
  gauge('nv_cpu_memory_used_bytes', 'CPU used memory (RAM), in bytes', () => used);

  const gpu = (name: string, help: string, read: (reading: GpuReading) => number | undefined): void =>
    collected(registry, { name, help, type: name === 'nv_energy_consumption' ? 'counter' : 'gauge' }, () =>
      readings.flatMap((reading) => {
        const value = read(reading);
        return value === undefined ? [] : { labels: { gpu_uuid: reading.uuid }, value };
      }),
    );
  gpu('nv_gpu_utilization', 'GPU utilization rate [0.0 - 1.0)', (of) => of.utilization);
  gpu('nv_gpu_memory_total_bytes', 'GPU total memory, in bytes', (of) => of.totalBytes);
  gpu('nv_gpu_memory_used_bytes', 'GPU used memory, in bytes', (of) => of.usedBytes);
  gpu('nv_gpu_power_usage', 'GPU power usage in watts', (of) => of.power);
  gpu('nv_gpu_power_limit', 'GPU power management limit in watts', (of) => of.powerLimit);
  gpu('nv_energy_consumption', 'GPU energy consumption in joules since the server started', (of) => of.energy);
  return () => clearInterval(timer);
}

/** Milliseconds of all cores together, since the machine started. */
function processorTimes(): { busy: number; total: number } {
  let busy = 0;
  let idle = 0;
  for (const { times } of cpus()) {
    busy += times.user + times.nice + times.sys + times.irq;
    idle += times.idle;
  }
  return { busy, total: busy + idle };
}
