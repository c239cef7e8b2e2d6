import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import type { DeviceRange } from './memory.ts';
import type { KernelFunction } from './module.ts';
import { Out } from './out.ts';
import { writerOf } from './parameters.ts';
import type { Dim3, Program, ProgramParameter } from './program.ts';
import type { Stream } from './stream.ts';
import { KERNEL_NODE_PARAMS, LAUNCH_ATTRIBUTE, LAUNCH_ATTRIBUTE_ID, LAUNCH_CONFIG, setWord } from './structs.ts';
import type { TensorMap } from './tensor-map.ts';

/** What a parameter can be set to. Numbers beyond 2^53 need a bigint. */
export type Argument = number | bigint | DeviceRange | TensorMap | Uint8Array;

/** What a launch needs to know of a kernel; a Program has it. */
export type LaunchFacts = Pick<
  Program,
  'params' | 'paramBytes' | 'sharedBytes' | 'threads' | 'cluster' | 'overlapsPrevious' | 'cooperative'
>;

/** Room for the attributes a launch can have at one time. */
const MAX_ATTRIBUTES = 4;
/** CUDA 12.3: the first driver that keeps overlapping launches when they are captured in a graph. */
const GRAPHS_OVERLAP = 12_030;

/**
 * A launch with everything laid out beforehand in one piece of host memory: the configuration, its attributes, and the
 * parameters. `launch` allocates nothing; between launches only fields change. The driver copies it all during the
 * call, so fields may change at once after it.
 */
export class PreparedLaunch {
  readonly function: KernelFunction;
  readonly context: Context;
  readonly #view: DataView;
  readonly #addressOfConfig: number;
  readonly #addressOfPointers: number;
  readonly #paramOffset: number;
  readonly #params: ReadonlyMap<string, ProgramParameter>;
  readonly #unset: Set<string>;
  readonly #launch: (config: number, handle: number, params: number, extra: number) => number;
  #stream: Stream | undefined;
  #hasGrid = false;

  constructor(kernel: KernelFunction, facts: LaunchFacts) {
    const { context } = kernel;
    this.function = kernel;
    this.context = context;
    this.#params = new Map(facts.params.map((param) => [param.name, param]));
    this.#unset = new Set(this.#params.keys());
    this.#launch = context.driver.calls.cuLaunchKernelEx;

    const attributes = 64;
    const pointers = attributes + MAX_ATTRIBUTES * LAUNCH_ATTRIBUTE.bytes;
    this.#paramOffset = Math.ceil((pointers + 8 * (facts.params.length + 1)) / 128) * 128;
    const view = new DataView(new ArrayBuffer(this.#paramOffset + Math.max(8, facts.paramBytes)));
    const base = context.driver.ffi.address(view);
    this.#view = view;
    this.#addressOfConfig = base;
    this.#addressOfPointers = base + pointers;

    setDim3(view, LAUNCH_CONFIG.block, facts.threads);
    view.setUint32(LAUNCH_CONFIG.sharedBytes, facts.sharedBytes, true);
    setWord(view, LAUNCH_CONFIG.attributes, base + attributes);
    view.setUint32(
      LAUNCH_CONFIG.attributeCount,
      writeAttributes(view, attributes, {
        ...facts,
        // Without the attribute the kernel's wait returns at once: its grid starts after the one before.
        overlapsPrevious: facts.overlapsPrevious === true && context.driver.version >= GRAPHS_OVERLAP,
      }),
      true,
    );

    // A pointer to each parameter, and not one to the whole buffer: the driver puts a tensor map where the hardware wants
    // it (a multiple of 64 from the start of its constant bank), which is not where PTX's alignment alone would.
    for (const [index, { offset }] of facts.params.entries()) {
      setWord(view, pointers + 8 * index, base + this.#paramOffset + offset);
    }

    kernel.allowDynamicShared(facts.sharedBytes);
  }

  /** CTAs in x, y and z: each a multiple of the cluster's. */
  grid(x: number, y = 1, z = 1): this {
    const view = this.#view;
    view.setUint32(LAUNCH_CONFIG.grid, x, true);
    view.setUint32(LAUNCH_CONFIG.grid + 4, y, true);
    view.setUint32(LAUNCH_CONFIG.grid + 8, z, true);
    this.#hasGrid = true;
    return this;
  }

  /** Sets a parameter. Throws CudaUsageError where there is none of this name, or the value does not fit it. */
  set(name: string, value: Argument): this {
    const param = this.#param(name);
    writerOf(param, this.function.name)(this.#view, this.#paramOffset + param.offset, value);
    this.#unset.delete(name);
    return this;
  }

  /** Sets all parameters. */
  args(values: Readonly<Record<string, Argument>>): this {
    for (const [name, value] of Object.entries(values)) this.set(name, value);
    return this;
  }

  /** For a parameter that changes with every launch: a function that sets it and looks nothing up. */
  setter(name: string): (value: Argument) => void {
    const param = this.#param(name);
    const [write, view, at] = [writerOf(param, this.function.name), this.#view, this.#paramOffset + param.offset];
    this.#unset.delete(name);
    return (value) => write(view, at, value);
  }

  /** Puts the launch into `stream`. Throws CudaError; the errors of the kernel itself come up at a later call. */
  launch(stream: Stream): void {
    const { context } = this;
    context.enter('cuLaunchKernelEx');
    if (stream !== this.#stream || stream.disposed) this.#prepare(stream);
    const code = this.#launch(this.#addressOfConfig, this.function.handle, this.#addressOfPointers, 0);
    if (code !== 0) context.fail('cuLaunchKernelEx', code, ` for kernel ${this.function.name}, ${this.#shape()}`);
  }

  /** Clusters of this launch that the device holds at one time. */
  activeClusters(): number {
    const out = new Out();
    this.context.run('cuOccupancyMaxActiveClusters', out.data, this.function.handle, this.#addressOfConfig);
    return out.i32;
  }

  /** The launch as CUDA_KERNEL_NODE_PARAMS, for GraphExec.update. */
  nodeParams(): DataView {
    const params = new DataView(new ArrayBuffer(KERNEL_NODE_PARAMS.bytes));
    setWord(params, KERNEL_NODE_PARAMS.function, this.function.handle);
    for (let at = 0; at < LAUNCH_CONFIG.sharedBytes + 4; at += 4) {
      params.setUint32(KERNEL_NODE_PARAMS.grid + at, this.#view.getUint32(at, true), true);
    }
    setWord(params, KERNEL_NODE_PARAMS.kernelParams, this.#addressOfPointers);
    return params;
  }

  #prepare(stream: Stream): void {
    if (this.#unset.size > 0) {
      throw new CudaUsageError(`kernel ${this.function.name} lacks its parameters ${[...this.#unset].join(', ')}`);
    }
    if (!this.#hasGrid) throw new CudaUsageError(`kernel ${this.function.name} has no grid yet`);
    setWord(this.#view, LAUNCH_CONFIG.stream, stream.handle);
    this.#stream = stream;
  }

  #param(name: string): ProgramParameter {
    const param = this.#params.get(name);
    if (param) return param;
    throw new CudaUsageError(
      `kernel ${this.function.name} has no parameter ${name}: it has ${[...this.#params.keys()].join(', ') || 'none'}`,
    );
  }

  #shape(): string {
    const axes = (at: number): string => [0, 4, 8].map((axis) => this.#view.getUint32(at + axis, true)).join('x');
    const shared = this.#view.getUint32(LAUNCH_CONFIG.sharedBytes, true);
    return `grid ${axes(LAUNCH_CONFIG.grid)}, ${axes(LAUNCH_CONFIG.block)} threads, ${shared} bytes of dynamic shared memory`;
  }
}

function setDim3(view: DataView, offset: number, [x, y, z]: Dim3): void {
  view.setUint32(offset, x, true);
  view.setUint32(offset + 4, y, true);
  view.setUint32(offset + 8, z, true);
}

/** Writes the attributes that `facts` ask for and gives their number. */
function writeAttributes(view: DataView, offset: number, facts: LaunchFacts): number {
  let count = 0;
  const next = (id: number): number => {
    const at = offset + count * LAUNCH_ATTRIBUTE.bytes;
    view.setUint32(at + LAUNCH_ATTRIBUTE.id, id, true);
    count += 1;
    return at + LAUNCH_ATTRIBUTE.value;
  };
  if (facts.cluster) setDim3(view, next(LAUNCH_ATTRIBUTE_ID.clusterDimension), facts.cluster);
  if (facts.overlapsPrevious) view.setInt32(next(LAUNCH_ATTRIBUTE_ID.programmaticStreamSerialization), 1, true);
  if (facts.cooperative) view.setInt32(next(LAUNCH_ATTRIBUTE_ID.cooperative), 1, true);
  return count;
}
