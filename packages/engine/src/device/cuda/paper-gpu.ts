import { specialise, type Dims, type KernelCase, type KernelModule, type Specialisation } from '@rose/kernels';
import { assert } from '../../errors.ts';
import type {
  Gpu,
  GpuGraph,
  GpuKernel,
  GpuLaunch,
  GpuMemory,
  GpuRange,
  GpuStream,
  KernelsLoaded,
  KernelWanted,
  PinnedBlock,
} from './gpu.ts';

/** What a paper GPU knows of a real one. */
export type PaperFacts = Pick<Gpu, 'description' | 'arch' | 'multiprocessors' | 'sharedBytes'>;

/**
 * A GPU on paper: its memory has sizes and no bytes, and what is put into its streams is counted and does not run. A model
 * built on one says what it will ask of the real one before a byte of its weights is read.
 */
export class PaperGpu implements Gpu {
  readonly description: string;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly sharedBytes: number;
  readonly lost = undefined;
  readonly stream: PaperStream = new PaperStream();
  /** Bytes of the GPU's memory, and of pinned memory of the host, that were asked for. */
  allocated = 0;
  pinnedBytes = 0;
  readonly #kernels = new Map<string, PaperKernel>();

  constructor({ description, arch, multiprocessors, sharedBytes }: PaperFacts) {
    this.description = description;
    this.arch = arch;
    this.multiprocessors = multiprocessors;
    this.sharedBytes = sharedBytes;
  }

  /** What `load` was asked for, each once, in the order of the first time. */
  get wanted(): KernelWanted[] {
    return [...this.#kernels.values()].map(({ module, wanted }) => ({ module, wanted }));
  }

  memory(): { free: number; total: number } {
    return { free: 2 ** 50, total: 2 ** 50 };
  }

  alloc(bytes: number): GpuMemory {
    this.allocated += bytes;
    return new PaperRange(bytes);
  }

  pinned(bytes: number): PinnedBlock {
    this.pinnedBytes += bytes;
    return { buffer: new ArrayBuffer(bytes), range: new PaperRange(bytes), free: () => {} };
  }

  load(module: KernelModule, wanted: KernelCase): GpuKernel {
    const key = `${module.name} ${JSON.stringify(wanted)}`;
    let kernel = this.#kernels.get(key);
    if (kernel === undefined) {
      kernel = new PaperKernel(this, module, wanted);
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  async loadAll(): Promise<KernelsLoaded> {
    return { kernels: [], compiled: 0, threads: 0 };
  }

  newStream(): GpuStream {
    return new PaperStream();
  }

  close(): void {}
}

class PaperRange implements GpuMemory {
  readonly bytes: number;

  constructor(bytes: number) {
    this.bytes = bytes;
  }

  slice(offset: number, bytes = this.bytes - offset): GpuRange {
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= this.bytes, 'a slice outside of its range');
    return new PaperRange(bytes);
  }

  free(): void {}
}

class PaperKernel implements GpuKernel {
  readonly module: KernelModule;
  readonly wanted: KernelCase;
  readonly specialisation: Specialisation;
  readonly #gpu: PaperGpu;

  constructor(gpu: PaperGpu, module: KernelModule, wanted: KernelCase) {
    this.#gpu = gpu;
    this.module = module;
    this.wanted = wanted;
    this.specialisation = specialise(module, wanted);
  }

  gridFor(dims: Dims): readonly [number, number, number] {
    const { specialisation: s } = this;
    return this.module.grid({ ...s, dims: { ...s.dims, ...dims } }, this.#gpu);
  }

  prepare(): GpuLaunch {
    return new PaperLaunch();
  }

  free(): void {}
}

class PaperLaunch implements GpuLaunch {
  grid(): this {
    return this;
  }

  set(): this {
    return this;
  }

  point(): this {
    return this;
  }

  run(stream: GpuStream): void {
    (stream as PaperStream).put();
  }
}

class PaperStream implements GpuStream {
  /** Launches, copies, fills and graphs that were put here; those of a graph count when it is captured. */
  calls = 0;

  put(): void {
    this.calls++;
  }

  upload(): void {
    this.put();
  }

  download(): void {
    this.put();
  }

  copy(): void {
    this.put();
  }

  fill(): void {
    this.put();
  }

  capture(body: () => void): GpuGraph {
    body();
    return { run: (stream) => (stream as PaperStream).put(), free: () => {} };
  }

  waitFor(): void {}

  async settled(): Promise<void> {}

  synchronize(): void {}

  free(): void {}
}
