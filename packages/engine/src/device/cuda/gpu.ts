import type { Dims, KernelCase, KernelModule, Specialisation } from '@rose/kernels';

/**
 * What the CUDA device needs of a GPU. `driver-gpu.ts` is one behind NVIDIA's driver; tests have one that runs every
 * launch in the kernel language's simulator, so that whole models run where there is no GPU.
 */
export interface Gpu {
  /** For people: `GPU 0 (NVIDIA H100 80GB HBM3)`. */
  readonly description: string;
  /** What kernels are compiled for: `sm_90a`. */
  readonly arch: string;
  readonly multiprocessors: number;
  /** Shared memory that a CTA can have, in bytes. */
  readonly sharedBytes: number;
  /** Free and total bytes of its memory now; others may use it too. */
  memory(): { readonly free: number; readonly total: number };
  /** Memory of undefined contents, aligned to 256 bytes at least. Throws RoseError `unavailable` where there is not so much. */
  alloc(bytes: number): GpuMemory;
  /** Memory of the host that copies go to and come from. Throws RoseError `unavailable` where it cannot be had. */
  pinned(bytes: number): PinnedBlock;
  /**
   * A kernel for these sizes and options, compiled. Loading the same twice costs nothing, and is freed twice. Throws RangeError
   * where it refuses them, and RoseError `unavailable` where the GPU has no room for its module.
   */
  load(module: KernelModule, wanted: KernelCase): GpuKernel;
  /**
   * Load these, those that were never compiled side by side in other threads; `load` gives them at once then. Rejects with what
   * a kernel is refused for, with the compiler's error, or when `signal` says so; nothing is left loaded then.
   */
  loadAll(kernels: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded>;
  /** The stream in which steps run. */
  readonly stream: GpuStream;
  /** Why it can do no work any more for this process: a fault of a kernel, or work that did not end. */
  readonly lost: Error | undefined;
  /** Another one, for copies beside the steps. Its owner frees it. */
  newStream(): GpuStream;
  close(): void;
}

/** A kernel with the sizes and options that somebody wants of it. */
export interface KernelWanted {
  readonly module: KernelModule;
  readonly wanted: KernelCase;
}

export interface KernelsLoaded {
  /** Each is the caller's to free. */
  readonly kernels: readonly GpuKernel[];
  /** Programs that had to be compiled, and in how many threads. */
  readonly compiled: number;
  readonly threads: number;
}

/** Some bytes of a GPU's memory. */
export interface GpuRange {
  readonly bytes: number;
  slice(offset: number, bytes?: number): GpuRange;
}

export interface GpuMemory extends GpuRange {
  /** The second time does nothing. */
  free(): void;
}

export interface PinnedBlock {
  readonly buffer: ArrayBuffer;
  /** The same memory, as kernels reach it: over the bus, what they write is there when they have ended. */
  readonly range: GpuRange;
  /** The second time does nothing. */
  free(): void;
}

export interface GpuKernel {
  readonly module: KernelModule;
  readonly specialisation: Specialisation;
  /** The grid for these sizes instead of those it was loaded with. */
  gridFor(dims: Dims): readonly [number, number, number];
  /**
   * A launch with its arguments; numbers and grid may be changed before each run. A tensor that the kernel moves by TMA
   * is taken to fill its range: its outermost dimension has as many elements as fit, whatever the sizes say.
   */
  prepare(args: Readonly<Record<string, GpuRange | number>>): GpuLaunch;
  /** Its module is unloaded with its last user; nothing of it may run then. */
  free(): void;
}

export interface GpuLaunch {
  grid(x: number, y?: number, z?: number): this;
  /** Set a scalar parameter. */
  set(name: string, value: number): this;
  /** Let a parameter be another tensor; not one that the kernel moves by TMA. */
  point(name: string, range: GpuRange): this;
  run(stream: GpuStream): void;
}

/** Work that runs in order. Nothing here waits but `synchronize`. */
export interface GpuStream {
  /** Copy `bytes` from `offset` of the block; it must stay as it is until then. */
  upload(target: GpuRange, source: PinnedBlock, offset: number, bytes: number): void;
  download(target: PinnedBlock, offset: number, source: GpuRange): void;
  /** Copy all of `source` to the beginning of `target`. */
  copy(target: GpuRange, source: GpuRange): void;
  fill(target: GpuRange, byte: number): void;
  /** Record what `body` puts into this stream; nothing runs. */
  capture(body: () => void): GpuGraph;
  /** What follows waits for what `other` has been given so far. */
  waitFor(other: GpuStream): void;
  /**
   * Fulfilled when all work given so far is done; rejected with the error of a kernel, or when it takes longer than
   * `deadlineMs`: the GPU is lost then. The thread is not blocked.
   */
  settled(deadlineMs?: number): Promise<void>;
  /** Wait in this thread; throws when it takes longer than `deadlineMs`: the GPU is lost then. */
  synchronize(deadlineMs?: number): void;
  free(): void;
}

export interface GpuGraph {
  run(stream: GpuStream): void;
  free(): void;
}
