import { setImmediate } from 'node:timers';
import type { TensorMapDescription } from '@rose/cute';
import {
  cacheDirectory,
  Context,
  CudaError,
  CudaUnavailableError,
  DeviceLostError,
  DeviceMemory,
  encodeTensorMap,
  Event,
  Kernel,
  listDevices,
  loadDriver,
  PinnedMemory,
  Stream,
  type Device as CudaDeviceFacts,
  type DeviceRange,
  type GraphExec,
  type PreparedLaunch,
} from '@rose/cuda';
import {
  specialise,
  tuningsFor,
  type Dims,
  type KernelCase,
  type KernelModule,
  type Specialisation,
  type Tunings,
} from '@rose/kernels';
import { assert, RoseError } from '../../errors.ts';
import type { OnPhase } from '../phase.ts';
import { mapOver } from './map-over.ts';
import { Programs } from './programs.ts';
import type { Gpu, GpuGraph, GpuKernel, GpuLaunch, GpuMemory, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';

/** CUDA's code for memory that is not there. */
const OUT_OF_MEMORY = 2;
/** CUDA's code for a kernel that does not end. */
const LAUNCH_TIMEOUT = 702;
/** Work that takes longer hangs. */
const DEADLINE_MS = 30_000;

/** A GPU behind NVIDIA's driver. */
export class DriverGpu implements Gpu {
  readonly description: string;
  readonly arch: string;
  readonly multiprocessors: number;
  readonly context: Context;
  readonly stream: DriverStream;
  readonly #tunings: Tunings;
  readonly #programs = new Programs();
  /** By sizes and options, and by PTX: cases that differ in nothing that counts share a module. */
  readonly #loaded = new Map<string, DriverKernel>();
  readonly #byPtx = new Map<string, Kernel>();

  private constructor(device: CudaDeviceFacts) {
    this.context = new Context(device);
    this.description = device.toString();
    this.arch = `sm_${device.capability}${device.capability >= 90 ? 'a' : ''}`;
    this.multiprocessors = device.attribute('multiprocessors');
    this.stream = new DriverStream(this.context);
    const { name } = device;
    const facts = { name, arch: this.arch, multiprocessors: this.multiprocessors };
    this.#tunings = tuningsFor(facts, { directory: cacheDirectory('tuning') });
  }

  /**
   * @param onPhase told of each part of it that is done
   * @throws RoseError `unavailable` where there is no driver, no such GPU, or none that this process may use
   */
  static open(index: number, onPhase?: OnPhase): DriverGpu {
    try {
      const devices = listDevices(loadDriver());
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
    const specialisation = specialise(module, wanted, this.#tunings);
    const key = `${module.name} ${JSON.stringify(specialisation)}`;
    const known = this.#loaded.get(key);
    if (known !== undefined) return known;
    const program = this.#programs.programOf(module, specialisation, this.arch);
    let kernel = this.#byPtx.get(program.ptx);
    if (kernel === undefined) {
      kernel = new Kernel(this.context, program);
      this.#byPtx.set(program.ptx, kernel);
    }
    const loaded = new DriverKernel(this, module, specialisation, kernel);
    this.#loaded.set(key, loaded);
    return loaded;
  }

  newStream(): GpuStream {
    return new DriverStream(this.context);
  }

  close(): void {
    this.context[Symbol.dispose]();
  }
}

/** A part of a block of device memory. */
class Range implements GpuMemory, DeviceRange {
  readonly bytes: number;
  readonly free: () => void;
  readonly #block: DeviceMemory;
  readonly #offset: number;

  constructor(block: DeviceMemory, offset: number, bytes: number, free: () => void) {
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= block.bytes, 'a range outside of its memory');
    this.#block = block;
    this.#offset = offset;
    this.bytes = bytes;
    this.free = free;
  }

  get context(): Context {
    return this.#block.context;
  }

  get address(): number {
    return this.#block.address + this.#offset;
  }

  slice(offset: number, bytes = this.bytes - offset): GpuRange {
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= this.bytes, 'a slice outside of its range');
    return new Range(this.#block, this.#offset + offset, bytes, this.free);
  }
}

class Pinned implements PinnedBlock {
  readonly memory: PinnedMemory;

  constructor(context: Context, bytes: number) {
    this.memory = new PinnedMemory(context, bytes);
  }

  get buffer(): ArrayBuffer {
    return this.memory.buffer;
  }

  free(): void {
    this.memory[Symbol.dispose]();
  }
}

class DriverKernel implements GpuKernel {
  readonly module: KernelModule;
  readonly specialisation: Specialisation;
  readonly #gpu: DriverGpu;
  readonly #kernel: Kernel;
  #maps: Readonly<Record<string, TensorMapDescription>> | undefined;

  constructor(gpu: DriverGpu, module: KernelModule, specialisation: Specialisation, kernel: Kernel) {
    this.#gpu = gpu;
    this.module = module;
    this.specialisation = specialisation;
    this.#kernel = kernel;
  }

  gridFor(dims: Dims): readonly [number, number, number] {
    const { specialisation: s } = this;
    return this.module.grid({ ...s, dims: { ...s.dims, ...dims } }, this.#gpu);
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
        const { context } = this.#gpu;
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

interface Waiting {
  readonly event: Event;
  readonly until: number;
  readonly deadlineMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class DriverStream implements GpuStream {
  readonly stream: Stream;
  readonly #context: Context;
  readonly #waiting: Waiting[] = [];
  readonly #events: Event[] = [];

  constructor(context: Context) {
    this.#context = context;
    this.stream = new Stream(context);
  }

  upload(target: GpuRange, source: PinnedBlock, offset: number, bytes: number): void {
    const { memory } = source as Pinned;
    this.stream.copyToDevice(target as Range, { memory, offset, bytes });
  }

  download(target: PinnedBlock, offset: number, source: GpuRange): void {
    const { memory } = target as Pinned;
    this.stream.copyToHost({ memory, offset, bytes: source.bytes }, source as Range);
  }

  copy(target: GpuRange, source: GpuRange): void {
    this.stream.copy(target as Range, source as Range);
  }

  fill(target: GpuRange, byte: number): void {
    this.stream.fill(target as Range, byte);
  }

  capture(body: () => void): GpuGraph {
    using graph = this.stream.capture(body);
    const exec = graph.instantiate();
    exec.upload(this.stream);
    return new DriverGraph(exec);
  }

  waitFor(other: GpuStream): void {
    const event = this.#events.pop() ?? new Event(this.#context);
    (other as DriverStream).stream.record(event);
    this.stream.wait(event);
    // The wait holds what was recorded: the event can be used again.
    this.#events.push(event);
  }

  settled(deadlineMs: number = DEADLINE_MS): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        const event = this.#events.pop() ?? new Event(this.#context);
        this.stream.record(event);
        this.#waiting.push({ event, until: performance.now() + deadlineMs, deadlineMs, resolve, reject });
        if (this.#waiting.length === 1) setImmediate(this.#poll);
      } catch (error) {
        reject(plain(error));
      }
    });
  }

  synchronize(): void {
    this.stream.synchronize();
  }

  free(): void {
    for (const event of this.#events.splice(0)) event[Symbol.dispose]();
    this.stream[Symbol.dispose]();
  }

  /** Asked between whatever else the thread does: waiting in the driver would hold the thread, a timer is too slow. */
  readonly #poll = (): void => {
    const waiting = this.#waiting;
    try {
      while (waiting.length > 0 && waiting[0].event.query()) {
        const { event, resolve } = waiting.shift()!;
        this.#events.push(event);
        resolve();
      }
      if (waiting.length > 0 && performance.now() > waiting[0].until) {
        // Nothing more may be asked of the driver, which would wait for what does not end.
        const seconds = waiting[0].deadlineMs / 1000;
        this.#context.lost = new CudaError('cuEventQuery', LAUNCH_TIMEOUT, `: no end after ${seconds} s`);
        throw this.#context.lost;
      }
    } catch (error) {
      for (const { reject } of waiting.splice(0)) reject(plain(error));
    }
    if (waiting.length > 0) setImmediate(this.#poll);
  };
}

class DriverGraph implements GpuGraph {
  readonly #exec: GraphExec;

  constructor(exec: GraphExec) {
    this.#exec = exec;
  }

  run(stream: GpuStream): void {
    this.#exec.launch((stream as DriverStream).stream);
  }

  free(): void {
    this.#exec[Symbol.dispose]();
  }
}

/** An error of the driver as the engine tells it to clients. */
function plain(error: unknown): Error {
  if (!(error instanceof CudaError) && !(error instanceof DeviceLostError)) return error as Error;
  return new RoseError('internal', error.message, { cause: error });
}
