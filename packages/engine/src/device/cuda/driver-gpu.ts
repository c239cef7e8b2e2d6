import {
  cacheDirectory,
  Context,
  CudaError,
  CudaUnavailableError,
  DeviceMemory,
  listDevices,
  loadDriver,
  type Device as CudaDeviceFacts,
  type Driver,
} from '@rose/cuda';
import { tuningsFor, type KernelCase, type KernelModule } from '@rose/kernels';
import { RoseError } from '../../errors.ts';
import type { OnPhase } from '../phase.ts';
import { DriverKernels } from './driver-kernels.ts';
import { Pinned, Range } from './driver-memory.ts';
import { DriverStream } from './driver-stream.ts';
import type { Gpu, GpuKernel, GpuMemory, GpuStream, KernelsLoaded, KernelWanted, PinnedBlock } from './gpu.ts';

/** CUDA's code for memory that is not there. */
const OUT_OF_MEMORY = 2;

/** A GPU behind NVIDIA's driver. */
export class DriverGpu implements Gpu {
  readonly description: string;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly sharedBytes: number;
  readonly context: Context;
  readonly stream: DriverStream;
  readonly #kernels: DriverKernels;

  private constructor(device: CudaDeviceFacts) {
    this.context = new Context(device);
    this.description = device.toString();
    this.arch = `sm_${device.capability}${device.capability >= 90 ? 'a' : ''}`;
    this.multiprocessors = device.attribute('multiprocessors');
    this.sharedBytes = device.attribute('sharedBytesPerBlock');
    this.stream = new DriverStream(this.context);
    const { name } = device;
    const facts = { name, arch: this.arch, multiprocessors: this.multiprocessors };
    this.#kernels = new DriverKernels(this, tuningsFor(facts, { directory: cacheDirectory('tuning') }));
  }

  /**
   * @param onPhase told of each part of it that is done
   * @throws RoseError `unavailable` where there is no driver, no such GPU, or none that this process may use
   */
  static open(index: number, onPhase?: OnPhase, driver: () => Driver = loadDriver): DriverGpu {
    try {
      const devices = listDevices(driver());
      onPhase?.('driver');
      const device = devices[index];
      if (device !== undefined) {
        const gpu = new DriverGpu(device);
        onPhase?.('context');
        return gpu;
      }
      const list = devices.map((known) => known.toString()).join(', ');
      throw new RoseError('unavailable', `there is no GPU ${index}: this machine has ${list}`, { param: 'device' });
    } catch (error) {
      // Another process may hold the GPU for itself.
      if (!(error instanceof CudaUnavailableError) && !(error instanceof CudaError)) throw error;
      throw new RoseError('unavailable', error.message, { param: 'device', cause: error });
    }
  }

  get lost(): Error | undefined {
    return this.context.lost;
  }

  memory(): { free: number; total: number } {
    return this.context.memory();
  }

  alloc(bytes: number): GpuMemory {
    const memory = this.#fitting(
      () => new DeviceMemory(this.context, bytes),
      () => `${this.description} has no room for ${sized(bytes)} more: ${sized(this.memory().free)} are free`,
    );
    return new Range(memory, 0, bytes, () => memory[Symbol.dispose]());
  }

  pinned(bytes: number): PinnedBlock {
    return this.#fitting(
      () => new Pinned(this.context, bytes),
      () =>
        `the host has no room for ${sized(bytes)} of pinned memory, which ${this.description} copies from and to: let this process ` +
        'have more memory (its container, ulimit -l), or take fewer --max-sequences and --max-rows',
    );
  }

  load(module: KernelModule, wanted: KernelCase): GpuKernel {
    return this.#fitting(
      () => this.#kernels.load({ module, wanted }),
      () => this.#noModule(),
    );
  }

  async loadAll(kernels: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded> {
    try {
      return await this.#kernels.loadAll(kernels, signal);
    } catch (error) {
      throw fits(error, () => this.#noModule());
    }
  }

  #noModule(): string {
    const free = `${sized(this.memory().free)} are free`;
    return `${this.description} has no room for a kernel's module: ${free}; a smaller --memory-share leaves more to the driver`;
  }

  #fitting<T>(make: () => T, message: () => string): T {
    try {
      return make();
    } catch (error) {
      throw fits(error, message);
    }
  }

  newStream(): GpuStream {
    return new DriverStream(this.context);
  }

  close(): void {
    this.context[Symbol.dispose]();
  }
}

/** The same error, or where memory was missing one that says so to a person. */
function fits(error: unknown, message: () => string): unknown {
  if (!(error instanceof CudaError) || error.code !== OUT_OF_MEMORY) return error;
  return new RoseError('unavailable', message(), { cause: error });
}

function sized(bytes: number): string {
  const mib = bytes / 1024 ** 2;
  return mib < 100 ? `${mib.toFixed(1)} MiB` : `${(mib / 1024).toFixed(2)} GiB`;
}
