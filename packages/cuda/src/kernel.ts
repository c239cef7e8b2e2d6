import { architectureOf, chooseAssembler, type Assembler, type AssembleOptions, type Compiled } from './assembler.ts';
import { readResources, type KernelResources } from './compile-log.ts';
import type { Context } from './context.ts';
import { CubinCache, cubinKey } from './cubin-cache.ts';
import { PreparedLaunch } from './launch.ts';
import { Module, type KernelFunction } from './module.ts';
import type { Program } from './program.ts';

export interface CompileOptions extends AssembleOptions {
  /** Default: see chooseAssembler. */
  readonly assembler?: Assembler;
  /** Default: the cache in `cacheDirectory('cubin')`. False: none. */
  readonly cache?: CubinCache | false;
}

/**
 * A program's image for the context's device: from the cache, else compiled and kept. `cached` says which. An empty image
 * is one that the driver makes as it loads the program, and keeps itself. Throws CompileError, whose message names the
 * kernel's source lines.
 */
export function compile(
  context: Context,
  program: Pick<Program, 'name' | 'ptx' | 'maxRegisters'>,
  options: CompileOptions = {},
): Compiled & { readonly cached: boolean } {
  const assembler = options.assembler ?? chooseAssembler(context);
  const cache = options.cache ?? (defaultCache ??= new CubinCache());
  const settings = settingsOf(program, options);
  const architecture = architectureOf(program.ptx, context.device.capability);
  // The driver compiles for the device it has, so the device is part of what the image depends on.
  const target = `${architecture} on ${context.device.capability}`;
  const key = cubinKey(program.ptx, target, assembler.identity, settings);
  const kept = cache ? cache.get(key) : undefined;
  if (kept) return { ...kept, cached: true };
  const compiled = assembler.assemble(program.name, program.ptx, architecture, settings);
  if (cache && compiled.cubin.length > 0) cache.put(key, compiled);
  return { ...compiled, cached: false };
}

function settingsOf(program: Pick<Program, 'maxRegisters'>, options: CompileOptions): AssembleOptions {
  const maxRegisters = options.maxRegisters ?? program.maxRegisters;
  return {
    ...(maxRegisters === undefined ? {} : { maxRegisters }),
    ...(options.optimization === undefined ? {} : { optimization: options.optimization }),
    ...(options.lineInfo === undefined ? {} : { lineInfo: options.lineInfo }),
  };
}

let defaultCache: CubinCache | undefined;

/** A program on a device, ready for launches to be prepared. Owns its module. */
export class Kernel implements Disposable {
  readonly program: Program;
  readonly module: Module;
  readonly function: KernelFunction;
  /** What the assembler said the kernel takes; undefined where it said nothing. */
  readonly resources: KernelResources | undefined;
  /** The image came from the cache. */
  readonly cached: boolean;

  /** Throws CompileError, CudaError. */
  constructor(context: Context, program: Program, options: CompileOptions = {}) {
    const { cubin, kernels, cached } = compile(context, program, options);
    this.program = program;
    this.cached = cached;
    const { name, ptx } = program;
    const whole = { name, ptx, options: settingsOf(program, options) };
    this.module = new Module(context, cubin.length > 0 ? cubin : whole);
    const told = cubin.length > 0 ? kernels : readResources(this.module.log);
    this.resources = told.find((kernel) => kernel.name === name);
    try {
      this.function = this.module.function(program.name);
      if (program.cluster && program.cluster[0] * program.cluster[1] * program.cluster[2] > 8) {
        this.function.allowLargeClusters();
      }
    } catch (error) {
      this.module[Symbol.dispose]();
      throw error;
    }
  }

  /** A launch of this kernel; it lacks its grid and parameters. */
  prepare(): PreparedLaunch {
    return new PreparedLaunch(this.function, this.program);
  }

  [Symbol.dispose](): void {
    this.module[Symbol.dispose]();
  }
}
