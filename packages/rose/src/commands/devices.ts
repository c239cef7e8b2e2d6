import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { Command } from 'commander';
import { bytes, print } from '../output.ts';

interface GpuRow {
  readonly device: string;
  readonly name: string;
  readonly uuid: string;
  /** Compute capability times ten. */
  readonly capability: number;
  readonly multiprocessors: number;
  readonly totalBytes: number;
  /** Undefined: another process holds the GPU for itself. */
  readonly freeBytes: number | undefined;
}

interface Listing {
  readonly cpu: {
    readonly name: string;
    readonly threads: number;
    readonly totalBytes: number;
    readonly freeBytes: number;
  };
  readonly gpus: readonly GpuRow[];
  /** CUDA's version that the driver knows, `13.0`. */
  readonly driver: string | undefined;
  /** Why there is no GPU. */
  readonly reason: string | undefined;
}

/** `rose devices`: where models can run on this machine. */
export function devicesCommand(): Command {
  return new Command('devices')
    .description('list what --device can be on this machine, and the memory that is free there')
    .option('--json', 'print as JSON')
    .action(async (options: { json?: boolean }) => {
      const listing = await list();
      await print(`${options.json ? JSON.stringify(listing, undefined, 2) : text(listing)}\n`);
    });
}

async function list(): Promise<Listing> {
  const cpu = {
    name: cpus()[0]?.model ?? 'CPU',
    threads: availableParallelism(),
    totalBytes: totalmem(),
    freeBytes: freemem(),
  };
  const { Context, CudaError, CudaUnavailableError, listDevices, loadDriver, versionText } = await import('@rose/cuda');
  try {
    const driver = loadDriver();
    const gpus = listDevices(driver).map((device): GpuRow => {
      let freeBytes: number | undefined;
      try {
        using context = new Context(device);
        freeBytes = context.memory().free;
      } catch (error) {
        if (!(error instanceof CudaError)) throw error;
      }
      return {
        device: `cuda:${device.ordinal}`,
        name: device.name,
        uuid: device.uuid,
        capability: device.capability,
        multiprocessors: device.attribute('multiprocessors'),
        totalBytes: device.memoryBytes,
        freeBytes,
      };
    });
    return { cpu, gpus, driver: versionText(driver.version), reason: undefined };
  } catch (error) {
    if (!(error instanceof CudaUnavailableError)) throw error;
    return { cpu, gpus: [], driver: undefined, reason: error.message };
  }
}

function text({ cpu, gpus, driver, reason }: Listing): string {
  const column = Math.max(3, ...gpus.map(({ device }) => device.length)) + 2;
  return [
    `${'cpu'.padEnd(column)}${cpu.name}, ${cpu.threads} threads, ${bytes(cpu.freeBytes)} of ${bytes(cpu.totalBytes)} free`,
    ...gpus.map((gpu) => {
      const free = gpu.freeBytes === undefined ? 'held by another process' : `${bytes(gpu.freeBytes)} free`;
      return (
        `${gpu.device.padEnd(column)}${gpu.name}, compute capability ${gpu.capability / 10}, ` +
        `${gpu.multiprocessors} multiprocessors, ${free} of ${bytes(gpu.totalBytes)}`
      );
    }),
    reason ?? `NVIDIA's driver knows CUDA ${driver}.`,
  ].join('\n');
}
