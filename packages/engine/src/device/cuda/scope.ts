import type { KernelCase, KernelModule } from '@rose/kernels';
import type { Gpu, GpuKernel, GpuMemory, GpuStream, PinnedBlock } from './gpu.ts';

/**
 * A GPU as one owner uses it: all memory that was taken there goes back together, also when what takes it fails half way.
 */
export class GpuScope implements Gpu {
  readonly description: string;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly stream: GpuStream;
  readonly #gpu: Gpu;
  readonly #taken: { free(): void }[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.description = gpu.description;
    this.arch = gpu.arch;
    this.multiprocessors = gpu.multiprocessors;
    this.stream = gpu.stream;
  }

  get lost(): Error | undefined {
    return this.#gpu.lost;
  }

  memory(): { readonly free: number; readonly total: number } {
    return this.#gpu.memory();
  }

  alloc(bytes: number): GpuMemory {
    return this.#take(this.#gpu.alloc(bytes));
  }

  pinned(bytes: number): PinnedBlock {
    return this.#take(this.#gpu.pinned(bytes));
  }

  load(module: KernelModule, wanted: KernelCase): GpuKernel {
    return this.#gpu.load(module, wanted);
  }

  newStream(): GpuStream {
    return this.#gpu.newStream();
  }

  /** Give back what was taken. What runs in the stream may still use it: wait for that first. */
  close(): void {
    for (const taken of this.#taken.splice(0)) taken.free();
  }

  #take<Taken extends { free(): void }>(taken: Taken): Taken {
    this.#taken.push(taken);
    return taken;
  }
}
