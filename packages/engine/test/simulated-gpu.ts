import { simulate, type KernelIR, type SimulatorArgument } from '@rose/cute';
import { specialise, type Dims, type KernelCase, type KernelModule, type Specialisation } from '@rose/kernels';
import { mapOver } from '../src/device/cuda/map-over.ts';
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
} from '../src/device/cuda/gpu.ts';

/** What memory holds before anything is written to it: NaN in every float type. */
const POISON = 0xff;

/**
 * A GPU whose kernels run in the simulator. Everything is done at once, in the order in which it is given, and whatever the
 * simulator finds ends the launch with an error. Memory that is read before it is written holds NaN.
 */
export class SimulatedGpu implements Gpu {
  readonly description = 'GPU 0 (simulated)';
  readonly arch: string;
  /** Few, so that what walks over rows takes several turns. */
  readonly multiprocessors = 2;
  readonly sharedBytes: number;
  readonly lost = undefined;
  readonly stream: SimulatedStream = new SimulatedStream();
  /** Launches so far, by kernel. */
  readonly launches: Map<string, number> = new Map();
  readonly #total: number;
  #used = 0;
  readonly #traced = new Map<string, SimulatedKernel>();

  constructor(options: { readonly arch?: string; readonly bytes?: number; readonly sharedBytes?: number } = {}) {
    this.sharedBytes = options.sharedBytes ?? 227 * 1024;
    this.arch = options.arch ?? 'sm_90a';
    this.#total = options.bytes ?? 2 ** 30;
  }

  memory(): { free: number; total: number } {
    return { free: this.#total - this.#used, total: this.#total };
  }

  /** Bytes that were taken and not given back. */
  get used(): number {
    return this.#used;
  }

  /** Kernels that were loaded and not freed. */
  get kernels(): number {
    return [...this.#traced.values()].filter(({ users }) => users > 0).length;
  }

  alloc(bytes: number): GpuMemory {
    if (bytes > this.#total - this.#used) throw new Error(`no room for ${bytes} bytes`);
    this.#used += bytes;
    let live = true;
    return new Bytes(new Uint8Array(bytes).fill(POISON), () => {
      if (live) this.#used -= bytes;
      live = false;
    });
  }

  pinned(bytes: number): PinnedBlock {
    const buffer = new ArrayBuffer(bytes);
    return { buffer, range: new Bytes(new Uint8Array(buffer), () => {}), free: () => {} };
  }

  load(module: KernelModule, wanted: KernelCase): GpuKernel {
    const s = specialise(module, wanted);
    const key = `${module.name} ${JSON.stringify(s)}`;
    let kernel = this.#traced.get(key);
    if (kernel === undefined) {
      kernel = new SimulatedKernel(this, module, s, module.trace(s));
      this.#traced.set(key, kernel);
    }
    kernel.users++;
    return kernel;
  }

  /** Holds what is loaded as a driver does. */
  async loadAll(wanted: readonly KernelWanted[]): Promise<KernelsLoaded> {
    return { kernels: wanted.map(({ module, wanted: one }) => this.load(module, one)), compiled: 0, threads: 0 };
  }

  newStream(): GpuStream {
    return new SimulatedStream();
  }

  close(): void {}
}

class Bytes implements GpuMemory {
  readonly data: Uint8Array;
  readonly free: () => void;

  constructor(data: Uint8Array, free: () => void) {
    this.data = data;
    this.free = free;
  }

  get bytes(): number {
    return this.data.length;
  }

  slice(offset: number, bytes = this.bytes - offset): GpuRange {
    if (offset < 0 || bytes < 0 || offset + bytes > this.bytes) throw new RangeError('a slice outside of its range');
    return new Bytes(this.data.subarray(offset, offset + bytes), this.free);
  }
}

class SimulatedKernel implements GpuKernel {
  readonly gpu: SimulatedGpu;
  readonly module: KernelModule;
  readonly specialisation: Specialisation;
  readonly kernel: KernelIR;
  users = 0;

  constructor(gpu: SimulatedGpu, module: KernelModule, specialisation: Specialisation, kernel: KernelIR) {
    this.gpu = gpu;
    this.module = module;
    this.specialisation = specialisation;
    this.kernel = kernel;
  }

  gridFor(dims: Dims): readonly [number, number, number] {
    const { specialisation: s } = this;
    return this.module.grid({ ...s, dims: { ...s.dims, ...dims } }, this.gpu);
  }

  prepare(args: Readonly<Record<string, GpuRange | number>>): GpuLaunch {
    return new SimulatedLaunch(this, args);
  }

  free(): void {
    if (--this.users < 0) throw new Error(`${this.module.name} was freed once too often`);
  }
}

class SimulatedLaunch implements GpuLaunch {
  readonly #kernel: SimulatedKernel;
  readonly #args: Record<string, GpuRange | number>;
  #grid: readonly [number, number, number];

  constructor(kernel: SimulatedKernel, args: Readonly<Record<string, GpuRange | number>>) {
    this.#kernel = kernel;
    this.#args = { ...args };
    for (const [name, value] of Object.entries(args)) this.#aligned(name, value);
    this.#grid = kernel.gridFor({});
  }

  grid(x: number, y = 1, z = 1): this {
    this.#grid = [x, y, z];
    return this;
  }

  set(name: string, value: number): this {
    this.#args[name] = value;
    return this;
  }

  point(name: string, range: GpuRange): this {
    this.#aligned(name, range);
    this.#args[name] = range;
    return this;
  }

  /** As launches on a driver ask it; memory begins at a multiple of any alignment there. */
  #aligned(name: string, value: GpuRange | number): void {
    const { kernel, module } = this.#kernel;
    const param = kernel.params.find((one) => one.name === name);
    if (param?.kind !== 'tensor' || typeof value === 'number') return;
    const at = (value as Bytes).data.byteOffset;
    if (at % param.align === 0) return;
    throw new Error(`${module.name} takes ${name} at a multiple of ${param.align}, and got ${at}`);
  }

  run(stream: GpuStream): void {
    const { gpu, module, specialisation, kernel } = this.#kernel;
    const maps = module.maps(specialisation);
    const grid = this.#grid;
    const args = Object.fromEntries(
      Object.entries(this.#args).map(([name, value]): [string, SimulatorArgument] => {
        if (typeof value === 'number') return [name, value];
        const tensor = (value as Bytes).data;
        return [name, maps[name] ? { map: mapOver(maps[name], tensor.length), tensor } : tensor];
      }),
    );
    (stream as SimulatedStream).put(() => {
      gpu.launches.set(module.name, (gpu.launches.get(module.name) ?? 0) + 1);
      // Memory is one piece here and holds what an earlier launch left: what is read has been written, or is poison.
      const { findings } = simulate(kernel, { grid, args, options: { checks: { uninitialised: false } } });
      if (findings.length > 0) throw new Error(`${module.name}: ${findings.map(({ message }) => message).join('; ')}`);
    });
  }
}

class SimulatedStream implements GpuStream {
  #recorded: (() => void)[] | undefined;

  /** Do it, or record it for a graph. */
  put(work: () => void): void {
    if (this.#recorded === undefined) work();
    else this.#recorded.push(work);
  }

  upload(target: GpuRange, source: PinnedBlock, offset: number, bytes: number): void {
    this.put(() => (target as Bytes).data.set(new Uint8Array(source.buffer, offset, bytes)));
  }

  download(target: PinnedBlock, offset: number, source: GpuRange): void {
    this.put(() => new Uint8Array(target.buffer, offset, source.bytes).set((source as Bytes).data));
  }

  copy(target: GpuRange, source: GpuRange): void {
    this.put(() => (target as Bytes).data.set((source as Bytes).data));
  }

  fill(target: GpuRange, byte: number): void {
    this.put(() => void (target as Bytes).data.fill(byte));
  }

  capture(body: () => void): GpuGraph {
    this.#recorded = [];
    try {
      body();
      const work = this.#recorded;
      return {
        run: (stream) => {
          for (const each of work) (stream as SimulatedStream).put(each);
        },
        free: () => {},
      };
    } finally {
      this.#recorded = undefined;
    }
  }

  waitFor(): void {}

  async settled(): Promise<void> {}

  synchronize(): void {}

  free(): void {}
}
