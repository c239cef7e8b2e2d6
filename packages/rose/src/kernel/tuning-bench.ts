import { CompileError, CudaError, CudaUsageError, Kernel, measure, type PreparedLaunch } from '@rose/cuda';
import { compileKernel, type Program } from '@rose/cute';
import { keyText, type KernelModule, type Specialisation } from '@rose/kernels';
import { CompilerPool } from './compiler-pool.ts';
import { DeviceArgs } from './device-args.ts';
import { spillsOf, type Gpu } from './gpu.ts';
import { RotatedArgs } from './rotated.ts';
import { TuningExcluded, type TuningBench, type TuningCandidate, type TuningPlace } from './tune.ts';

/** Microseconds of the launches in a graph that is replayed. */
const GRAPH_MICROSECONDS = 3000;
const MOST_LAUNCHES = 100;

/** Tunings on a GPU. Kernels stay loaded: many cases share one. */
export class GpuTuningBench implements TuningBench, Disposable {
  readonly #gpu: Gpu;
  /** By PTX. */
  readonly #kernels = new Map<string, Kernel>();
  readonly #compilers: CompilerPool | undefined;

  /** `threads` that compile beside this one. */
  constructor(gpu: Gpu, threads = 0) {
    this.#gpu = gpu;
    this.#compilers = threads > 0 ? new CompilerPool(gpu.context.device.ordinal, threads) : undefined;
  }

  open(module: KernelModule, s: Specialisation): TuningPlace {
    const gpu = this.#gpu;
    // What a kernel changes is put back before each first run.
    const [args, pristine] = excluding(() => {
      const rotated = new RotatedArgs(gpu, module, s);
      try {
        return [rotated, new DeviceArgs(gpu.context, module, s, rotated.sets[0])] as const;
      } catch (error) {
        rotated[Symbol.dispose]();
        throw error;
      }
    });
    const programs = new Map<string, Program>();
    const programOf = (tuned: Specialisation): Program => {
      const text = keyText(tuned.tuning);
      const program = programs.get(text) ?? this.#program(module, tuned);
      programs.set(text, program);
      return program;
    };
    let launchesInGraph = 0;
    return {
      ahead: async (list) => {
        if (!this.#compilers) return;
        const wanted = list.flatMap((tuned) => traceable(() => programOf(tuned)));
        await this.#compilers.compile(wanted.filter(({ ptx }) => !this.#kernels.has(ptx)));
      },
      prepare: (tuned) =>
        excluding(() => {
          const kernel = this.#kernel(programOf(tuned));
          const launches = args.launches(kernel, module, tuned);
          const outputs = firstRun(gpu, args.sets[0], pristine, launches[0]);
          const put = (n: number): void => launches[n % launches.length].launch(gpu.stream);
          const time = (repeats: number, count: number): number =>
            measure(gpu.stream, put, { launches: count, repeats, warmup: 1 }).median;
          // As many for every tuning of the case, by what the first takes.
          if (launchesInGraph === 0) {
            const wanted = Math.ceil(GRAPH_MICROSECONDS / time(1, launches.length));
            launchesInGraph = Math.max(launches.length, Math.min(MOST_LAUNCHES, wanted));
          }
          const candidate: TuningCandidate = { outputs, time: (repeats) => time(repeats, launchesInGraph) };
          return candidate;
        }),
      [Symbol.dispose]() {
        args[Symbol.dispose]();
        pristine[Symbol.dispose]();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#compilers?.[Symbol.dispose]();
    if (this.#gpu.context.lost) return;
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
  }

  /** Throws TuningExcluded where it spills. */
  #kernel(program: Program): Kernel {
    let kernel = this.#kernels.get(program.ptx);
    if (!kernel) {
      kernel = new Kernel(this.#gpu.context, program);
      this.#kernels.set(program.ptx, kernel);
    }
    // The driver says nothing of programs that it has in its own cache.
    const spills = kernel.resources ? spillsOf(kernel.resources) : kernel.function.facts().localBytes;
    if (spills > 0) throw new TuningExcluded(`its threads spill ${spills} bytes`);
    return kernel;
  }

  #program(module: KernelModule, s: Specialisation): Program {
    try {
      return compileKernel(module.trace(s), { arch: this.#gpu.arch }).program;
    } catch (error) {
      throw new TuningExcluded(`it cannot be traced: ${(error as Error).message}`, { cause: error });
    }
  }
}

/** A program; none where the tuning cannot be traced, which is told when it is used. */
function traceable(make: () => Program): Program[] {
  try {
    return [make()];
  } catch (error) {
    if (error instanceof TuningExcluded) return [];
    throw error;
  }
}

/** What a launch writes over poison. */
function firstRun({ stream }: Gpu, args: DeviceArgs, pristine: DeviceArgs, launch: PreparedLaunch): Uint8Array[] {
  args.reset(stream, pristine);
  launch.launch(stream);
  stream.synchronize();
  return args.outputs();
}

/** What a kernel or its launch is refused for excludes the tuning; a device that is lost ends the search. */
function excluding<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const refused = error instanceof CompileError || error instanceof CudaUsageError;
    if (!refused && !(error instanceof CudaError && !error.sticky)) throw error;
    throw new TuningExcluded(error.message, { cause: error });
  }
}
