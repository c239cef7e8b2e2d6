import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import type { TensorMapDescription } from '@rose/cute';
import { encodeTensorMap, Kernel, keptImage, type Context, type PreparedLaunch, type Program } from '@rose/cuda';
import { KERNELS, specialise, type Dims, type KernelModule, type Specialisation, type Tunings } from '@rose/kernels';
import { CompilerPool, type CompilerThread } from './compiler-pool.ts';
import { WorkerThread } from './compiler-thread.ts';
import type { Range } from './driver-memory.ts';
import type { DriverStream } from './driver-stream.ts';
import type { GpuKernel, GpuLaunch, GpuRange, GpuStream, KernelsLoaded, KernelWanted } from './gpu.ts';
import { mapOver } from './map-over.ts';
import { Programs, sourceVersion } from './programs.ts';

/** More threads hold each other up, and each takes tens of megabytes. */
const MOST_THREADS = 12;

/** What kernels need to know of their GPU. */
export interface KernelHome {
  readonly context: Context;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly sharedBytes: number;
}

/** A module on the GPU, and how many specialisations use it. */
interface Shared {
  readonly kernel: Kernel;
  users: number;
}

/**
 * The kernels that are loaded on a GPU, for as long as somebody uses them: by sizes and options, and by PTX, since cases that
 * differ in nothing that counts share a module.
 */
export class DriverKernels {
  readonly #home: KernelHome;
  readonly #tunings: Tunings;
  readonly #version: string = sourceVersion();
  readonly #programs: Programs;
  readonly #loaded = new Map<string, DriverKernel>();
  readonly #byPtx = new Map<string, Shared>();
  readonly #start: () => CompilerThread;
  #turn: Promise<void> = Promise.resolve();

  /** @param start starts a thread that compiles */
  constructor(home: KernelHome, tunings: Tunings, start?: () => CompilerThread) {
    this.#home = home;
    this.#tunings = tunings;
    this.#programs = new Programs(undefined, this.#version);
    const { ordinal } = home.context.device;
    this.#start = start ?? (() => new WorkerThread({ ordinal, arch: home.arch, version: this.#version }));
  }

  load({ module, wanted }: KernelWanted): GpuKernel {
    const { key, specialisation } = this.#keyOf({ module, wanted });
    const known = this.#loaded.get(key);
    if (known !== undefined) return known.take();
    const program = this.#programs.programOf(module, specialisation, this.#home.arch);
    return this.#add(key, module, specialisation, program);
  }

  /** Two models that are loaded at once take turns, and find each other's kernels. */
  loadAll(wanted: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded> {
    const loaded = this.#turn.then(() => this.#loadAll(wanted, signal));
    this.#turn = loaded.then(
      () => {},
      () => {},
    );
    return loaded;
  }

  async #loadAll(wanted: readonly KernelWanted[], signal: AbortSignal): Promise<KernelsLoaded> {
    const kernels: GpuKernel[] = [];
    try {
      const missing: Missing[] = [];
      const uncompiled = new Map<string, Program>();
      for (const each of wanted) {
        const { key, specialisation } = this.#keyOf(each);
        const { module } = each;
        const known = this.#loaded.get(key);
        if (known !== undefined) kernels.push(known.take());
        else {
          const program = this.#programs.kept(module, specialisation, this.#home.arch);
          // Those that are not the library's are known to this thread alone.
          if (program !== undefined && this.#find(program))
            kernels.push(this.#add(key, module, specialisation, program));
          else if (KERNELS.includes(module)) missing.push({ key, module, specialisation, program });
          if (program !== undefined && !this.#byPtx.has(program.ptx)) uncompiled.set(program.ptx, program);
        }
        // Weights are read beside this: their copies want this thread now and then.
        await setImmediate();
        signal.throwIfAborted();
      }
      const report = await this.#compile(missing, [...uncompiled.values()], signal);
      for (const { key, module, specialisation, program } of missing) {
        kernels.push(this.#loaded.get(key)?.take() ?? this.#add(key, module, specialisation, program!));
      }
      return { kernels, ...report };
    } catch (error) {
      for (const kernel of kernels) kernel.free();
      throw error;
    } finally {
      this.#sweep();
    }
  }

  /** Fill in the programs that are missing, and load an image of every one. */
  async #compile(
    missing: Missing[],
    programs: readonly Program[],
    signal: AbortSignal,
  ): Promise<Pick<KernelsLoaded, 'compiled' | 'threads'>> {
    const untraced = missing.filter(({ program }) => program === undefined);
    if (untraced.length + programs.length === 0) return { compiled: 0, threads: 0 };
    let compiled = 0;
    // One core is left to this thread, which feeds the copies of weights.
    const most = Math.max(1, Math.min(MOST_THREADS, availableParallelism() - 1));
    const threads = await new CompilerPool(this.#start, most).run(
      {
        programs,
        kernels: untraced.map(({ module: { name }, specialisation }) => ({ name, specialisation })),
        isThere: (ptx) => this.#byPtx.has(ptx),
        onProgram: (index, program) => (untraced[index].program = program),
        onImage: (program, image) => {
          compiled++;
          this.#byPtx.set(program.ptx, { kernel: new Kernel(this.#home.context, program, {}, image), users: 0 });
        },
      },
      signal,
    );
    return { compiled, threads };
  }

  /** Whether a program is loaded, or its image was kept, which is loaded then. */
  #find(program: Program): boolean {
    if (this.#byPtx.has(program.ptx)) return true;
    const { context } = this.#home;
    const image = keptImage(context, program);
    if (image === undefined) return false;
    this.#byPtx.set(program.ptx, { kernel: new Kernel(context, program, {}, image), users: 0 });
    return true;
  }

  #add(key: string, module: KernelModule, specialisation: Specialisation, program: Program): GpuKernel {
    if (program.sharedBytes > this.#home.sharedBytes) {
      const kib = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;
      const has = `of which ${this.#home.context.device.toString()} has ${kib(this.#home.sharedBytes)}`;
      throw new RangeError(`kernel ${module.name} takes ${kib(program.sharedBytes)} of shared memory, ${has}`);
    }
    let shared = this.#byPtx.get(program.ptx);
    if (shared === undefined) {
      shared = { kernel: new Kernel(this.#home.context, program), users: 0 };
      this.#byPtx.set(program.ptx, shared);
    }
    shared.users++;
    const { kernel } = shared;
    const added = new DriverKernel(this.#home, module, specialisation, kernel, () => {
      this.#loaded.delete(key);
      shared.users--;
      this.#sweepOne(program.ptx, shared);
    });
    this.#loaded.set(key, added);
    return added;
  }

  #keyOf({ module, wanted }: KernelWanted): { key: string; specialisation: Specialisation } {
    const specialisation = specialise(module, wanted, this.#tunings);
    return { key: `${module.name} ${JSON.stringify(specialisation)}`, specialisation };
  }

  /** Unload what was compiled for somebody who failed before it could be used. */
  #sweep(): void {
    for (const [ptx, shared] of this.#byPtx) this.#sweepOne(ptx, shared);
  }

  #sweepOne(ptx: string, shared: Shared): void {
    if (shared.users > 0) return;
    this.#byPtx.delete(ptx);
    shared.kernel[Symbol.dispose]();
  }
}

interface Missing {
  readonly key: string;
  readonly module: KernelModule;
  readonly specialisation: Specialisation;
  program: Program | undefined;
}

class DriverKernel implements GpuKernel {
  readonly module: KernelModule;
  readonly specialisation: Specialisation;
  readonly #home: KernelHome;
  readonly #kernel: Kernel;
  readonly #unload: () => void;
  #users = 1;
  #maps: Readonly<Record<string, TensorMapDescription>> | undefined;

  constructor(
    home: KernelHome,
    module: KernelModule,
    specialisation: Specialisation,
    kernel: Kernel,
    unload: () => void,
  ) {
    this.#home = home;
    this.module = module;
    this.specialisation = specialisation;
    this.#kernel = kernel;
    this.#unload = unload;
  }

  take(): this {
    this.#users++;
    return this;
  }

  free(): void {
    if (--this.#users === 0) this.#unload();
  }

  gridFor(dims: Dims): readonly [number, number, number] {
    const { specialisation: s } = this;
    return this.module.grid({ ...s, dims: { ...s.dims, ...dims } }, this.#home);
  }

  prepare(args: Readonly<Record<string, GpuRange | number>>): GpuLaunch {
    const launch = this.#kernel.prepare();
    // A kernel is prepared for every layer: what its maps are is worked out once.
    const maps = (this.#maps ??= this.module.maps(this.specialisation));
    for (const [name, value] of Object.entries(args)) {
      if (typeof value === 'number') launch.set(name, value);
      else {
        const range = value as Range;
        const map = maps[name];
        const { context } = this.#home;
        launch.set(name, map ? encodeTensorMap(context, { ...mapOver(map, range.bytes), memory: range }) : range);
      }
    }
    launch.grid(...this.gridFor({}));
    return new DriverLaunch(launch);
  }
}

class DriverLaunch implements GpuLaunch {
  readonly #launch: PreparedLaunch;
  readonly #setters = new Map<string, (value: number) => void>();

  constructor(launch: PreparedLaunch) {
    this.#launch = launch;
  }

  grid(x: number, y = 1, z = 1): this {
    this.#launch.grid(x, y, z);
    return this;
  }

  set(name: string, value: number): this {
    let setter = this.#setters.get(name);
    if (setter === undefined) {
      setter = this.#launch.setter(name);
      this.#setters.set(name, setter);
    }
    setter(value);
    return this;
  }

  point(name: string, range: GpuRange): this {
    this.#launch.set(name, range as Range);
    return this;
  }

  run(stream: GpuStream): void {
    this.#launch.launch((stream as DriverStream).stream);
  }
}
