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
  readonly context: Context;
  readonly stream: DriverStream;
  readonly #kernels: DriverKernels;

  private constructor(device: CudaDeviceFacts) {
    this.context = new Context(device);
    this.description = device.toString();
    this.arch = `sm_${device.capability}${device.capability >= 90 ? 'a' : ''}`;
    this.multiprocessors = device.attribute('multiprocessors');
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
    try {
      const memory = new DeviceMemory(this.context, bytes);
      return new Range(memory, 0, bytes, () => memory[Symbol.dispose]());
    } catch (error) {
      if (!(error instanceof CudaError) || error.code !== OUT_OF_MEMORY) throw error;
      const { free } = this.memory();
      const gib = (size: number): string => `${(size / 1024 ** 3).toFixed(2)} GiB`;
      const message = `${this.description} has no room for ${gib(bytes)} more: ${gib(free)} are free`;
      throw new RoseError('unavailable', message, { cause: error });
    }
  }

  pinned(bytes: number): PinnedBlock {
    return new Pinned(this.context, bytes);
  }

  load(module: KernelModule, wanted: KernelCase): GpuKernel {
    return this.#kernels.load({ module, wanted });
  }

  loadAll(kernels: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded> {
    return this.#kernels.loadAll(kernels, signal);
  }

  newStream(): GpuStream {
    return new DriverStream(this.context);
  }

  close(): void {
    this.context[Symbol.dispose]();
  }
}
