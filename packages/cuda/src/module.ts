import type { AssembleOptions } from './assembler.ts';
import { CompileError } from './compile-log.ts';
import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';
import { JitOptions } from './jit.ts';
import { DeviceBlock } from './memory.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import { resultOf } from './results.ts';

/** PTX that the driver compiles as it loads it. */
export interface WholeProgram {
  readonly name: string;
  readonly ptx: string;
  readonly options: AssembleOptions;
}

/** A module that some thread of this process loaded into the device's context and gave away: whoever takes it owns it. */
export interface LoadedModule {
  readonly handle: number;
  /** What the driver's compiler said. */
  readonly log: string;
}

/** A compiled image (cubin) on a device, or a program compiled there. Its functions and globals end with it. */
export class Module extends Resource {
  /** What the driver's compiler said; empty for images. */
  readonly log: string;
  readonly #functions = new Map<string, KernelFunction>();

  constructor(context: Context, image: Uint8Array | WholeProgram | LoadedModule) {
    const { handle, log } = 'handle' in image ? image : load(context, image);
    super(context, 'module', handle);
    this.log = log;
  }

  /** Gives up the ownership, for another thread to take it. This object is as if disposed. */
  giveAway(): LoadedModule {
    const { log } = this;
    return { handle: this.surrender(), log };
  }

  /** The kernel of this name. Throws CudaError (not found). */
  function(name: string): KernelFunction {
    const known = this.#functions.get(name);
    if (known) return known;
    const out = new Out();
    this.context.run('cuModuleGetFunction', out.data, this.handle, name);
    const found = new KernelFunction(this, name, out.word);
    this.#functions.set(name, found);
    return found;
  }

  /** The global variable of this name. */
  global(name: string): DeviceBlock {
    const [address, bytes] = [new Out(), new Out()];
    this.context.run('cuModuleGetGlobal_v2', address.data, bytes.data, this.handle, name);
    return new ModuleGlobal(this, address.word, bytes.word);
  }

  protected override release(handle: number): void {
    this.context.run('cuModuleUnload', handle);
  }
}

/** Throws CompileError, CudaError. */
function load(context: Context, image: Uint8Array | WholeProgram): LoadedModule {
  const out = new Out();
  if (image instanceof Uint8Array) {
    context.run('cuModuleLoadDataEx', out.data, image, 0, null, null);
    return { handle: out.word, log: '' };
  }
  const { name, ptx, options } = image;
  const { calls, ffi } = context.driver;
  const jit = new JitOptions(ffi, options);
  context.enter('cuModuleLoadDataEx');
  const code = calls.cuModuleLoadDataEx(out.data, Buffer.from(`${ptx}\0`), jit.count, jit.keys, jit.values);
  if (code !== 0) {
    const log = jit.errors;
    if (log.trim() !== '' && !resultOf(code).sticky) throw new CompileError(`kernel ${name}`, ptx, log);
    context.fail('cuModuleLoadDataEx', code, ` for kernel ${name}`);
  }
  return { handle: out.word, log: jit.log };
}

class ModuleGlobal extends DeviceBlock {
  readonly #module: Module;

  constructor(module: Module, address: number, bytes: number) {
    super(module.context, 'device memory', address, bytes);
    this.context.disown(this); // The module frees it.
    this.#module = module;
  }

  override get address(): number {
    return this.#module.handle === 0 ? 0 : super.address;
  }

  protected override release(): void {}
}

const ATTRIBUTE = {
  maxThreads: 0,
  staticSharedBytes: 1,
  constantBytes: 2,
  localBytes: 3,
  registers: 4,
  ptxVersion: 5,
  binaryVersion: 6,
  maxDynamicSharedBytes: 8,
  sharedCarveout: 9,
  nonPortableCluster: 14,
} as const;

export interface FunctionFacts {
  /** Registers a thread takes. */
  readonly registers: number;
  /** Bytes of local memory a thread takes: what was spilled, and arrays that are indexed at run time. */
  readonly localBytes: number;
  readonly staticSharedBytes: number;
  readonly constantBytes: number;
  /** Most threads a CTA of it can have. */
  readonly maxThreads: number;
  /** 90 for sm_90. */
  readonly binaryVersion: number;
}

/** A kernel in a module. */
export class KernelFunction {
  readonly module: Module;
  readonly name: string;
  readonly #handle: number;
  #dynamicShared = 0;

  constructor(module: Module, name: string, handle: number) {
    this.module = module;
    this.name = name;
    this.#handle = handle;
  }

  get context(): Context {
    return this.module.context;
  }

  /** CUfunction. Throws CudaUsageError once the module is disposed. */
  get handle(): number {
    return this.module.handle === 0 ? 0 : this.#handle;
  }

  facts(): FunctionFacts {
    return {
      registers: this.#read('registers'),
      localBytes: this.#read('localBytes'),
      staticSharedBytes: this.#read('staticSharedBytes'),
      constantBytes: this.#read('constantBytes'),
      maxThreads: this.#read('maxThreads'),
      binaryVersion: this.#read('binaryVersion'),
    };
  }

  /** Lets launches use up to `bytes` of dynamic shared memory. Throws CudaUsageError above what the device has. */
  allowDynamicShared(bytes: number): void {
    if (bytes <= this.#dynamicShared) return;
    const most = this.context.device.attribute('sharedBytesPerBlock') - this.#read('staticSharedBytes');
    if (bytes > most) {
      throw new CudaUsageError(
        `kernel ${this.name} asks for ${bytes} bytes of dynamic shared memory and ${this.context.device.toString()} ` +
          `has ${most} for it: use fewer stages or a smaller tile`,
      );
    }
    this.#write('maxDynamicSharedBytes', bytes);
    this.#dynamicShared = bytes;
  }

  /** Share of a multiprocessor's on-chip memory to use as shared memory, 0 to 100; -1 leaves it to the driver. */
  preferSharedCarveout(percent: number): void {
    this.#write('sharedCarveout', percent);
  }

  /** Allows clusters of 16 CTAs, which not every device of the architecture can place. */
  allowLargeClusters(): void {
    this.#write('nonPortableCluster', 1);
  }

  /** CTAs of this size that a multiprocessor holds at one time. */
  occupancy(threads: number, dynamicSharedBytes = 0): number {
    const out = new Out();
    this.context.run('cuOccupancyMaxActiveBlocksPerMultiprocessor', out.data, this.handle, threads, dynamicSharedBytes);
    return out.i32;
  }

  #read(attribute: keyof typeof ATTRIBUTE): number {
    const out = new Out();
    this.context.run('cuFuncGetAttribute', out.data, ATTRIBUTE[attribute], this.handle);
    return out.i32;
  }

  #write(attribute: keyof typeof ATTRIBUTE, value: number): void {
    this.context.run('cuFuncSetAttribute', this.handle, ATTRIBUTE[attribute], value);
  }
}
