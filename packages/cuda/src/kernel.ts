import { readResources, type KernelResources } from './compile-log.ts';
import type { Context } from './context.ts';
import { compile, loadWhole, type CompileOptions, type Image } from './image.ts';
import { PreparedLaunch } from './launch.ts';
import { Module, type KernelFunction } from './module.ts';
import type { Program } from './program.ts';

/** A program on a device, ready for launches to be prepared. Owns its module. */
export class Kernel implements Disposable {
  readonly program: Program;
  readonly module: Module;
  readonly function: KernelFunction;
  /** What the assembler said the kernel takes; undefined where it said nothing. */
  readonly resources: KernelResources | undefined;
  /** It was compiled before: see Image. */
  readonly cached: boolean;

  /**
   * @param image what `keptImage` or `makeImage` gave for the program; without it the program is compiled here
   * @throws CompileError, CudaError
   */
  constructor(context: Context, program: Program, options: CompileOptions = {}, image?: Image) {
    const { cubin, kernels, cached, loaded } = image ?? compile(context, program, options);
    this.program = program;
    this.cached = cached;
    if (loaded !== undefined) this.module = new Module(context, loaded);
    else if (cubin.length > 0) this.module = new Module(context, cubin);
    else this.module = loadWhole(context, program, options);
    const told = cubin.length > 0 ? kernels : readResources(this.module.log);
    this.resources = told.find((kernel) => kernel.name === program.name);
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
