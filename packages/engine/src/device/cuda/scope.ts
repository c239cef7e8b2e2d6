import type { KernelCase, KernelModule } from '@rose/kernels';
import type { Gpu, GpuKernel, GpuMemory, GpuStream, KernelsLoaded, KernelWanted, PinnedBlock } from './gpu.ts';

/**
 * A GPU as one owner uses it: all memory and kernels that were taken there go back together, also when what takes it fails half way.
 */
export class GpuScope implements Gpu {
  readonly description: string;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly sharedBytes: number;
  readonly stream: GpuStream;
  readonly #gpu: Gpu;
  readonly #taken: { free(): void }[] = [];
  readonly #kernels = new Set<GpuKernel>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.description = gpu.description;
    this.arch = gpu.arch;
    this.multiprocessors = gpu.multiprocessors;
    this.sharedBytes = gpu.sharedBytes;
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
    const kernel = this.#gpu.load(module, wanted);
    this.#hold(kernel);
    return kernel;
  }

  async loadAll(kernels: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded> {
    const loaded = await this.#gpu.loadAll(kernels, signal);
    for (const kernel of loaded.kernels) this.#hold(kernel);
    return loaded;
  }

  newStream(): GpuStream {
    return this.#gpu.newStream();
  }

  /** Give back what was taken. What runs in the stream may still use it: wait for that first. */
  close(): void {
    for (const taken of this.#taken.splice(0)) taken.free();
    for (const kernel of this.#kernels) kernel.free();
    this.#kernels.clear();
  }

  /** Once each: layers ask for the same kernels again and again. */
  #hold(kernel: GpuKernel): void {
    if (this.#kernels.has(kernel)) kernel.free();
    else this.#kernels.add(kernel);
  }

  #take<Taken extends { free(): void }>(taken: Taken): Taken {
    this.#taken.push(taken);
    return taken;
  }
}
