import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CubinCache, Kernel, measure, measureGraph } from '@rose/cuda';
import { compileKernel, KernelError, type Program } from '@rose/cute';
import {
  KERNELS,
  specialise,
  type KernelCase,
  type KernelModule,
  type KnownTunings,
  type Specialisation,
} from '@rose/kernels';
import { DeviceArgs } from '../../packages/rose/src/kernel/device-args.ts';
import type { Gpu } from '../../packages/rose/src/kernel/gpu.ts';
import { hostMicroseconds, median } from './time.ts';

/** What kernels cost the host. Milliseconds where the name does not say microseconds. */
export interface HostCosts {
  /** One launch that was prepared before, in the host's time. */
  readonly launchMicroseconds: number;
  /** One of 300 launches of one graph, from the graph's launch to its end, each overlapping the end of the one before. */
  readonly graphMicroseconds: number;
  /** The same where each launch waits for the end of the one before. */
  readonly graphApartMicroseconds: number;
  /** The host's part of it. */
  readonly graphHostMicroseconds: number;
  /** From the specification to PTX, warm: the median kernel and the slowest. */
  readonly traceAndEmit: { readonly median: number; readonly slowest: number; readonly kernel: string };
  /** Of each kernel's case with the most PTX. */
  readonly firstUse: Readonly<Record<string, FirstUse>>;
}

export interface FirstUse {
  readonly ptxBytes: number;
  /**
   * From the specification to the loaded image (trace, PTX, the driver's compiler), with empty caches and with full ones. The
   * code that traces is warm: in a new process it takes longer.
   */
  readonly emptyCache: number;
  readonly fromCache: number;
  /** From the PTX to the loaded image, from the cache. */
  readonly load: number;
}

/** Milliseconds that a kernel's first use may take, and what loading its image from the cache may. */
export const FIRST_USE_BARS = { emptyCache: 1500, load: 5 } as const;

const GRAPH_LAUNCHES = 300;
const WARM_ROUNDS = 9;
const CACHED_ROUNDS = 5;

/** @param tunings those that the bench's cases and servers take */
export function hostCosts(gpu: Gpu, multiprocessors: number, tunings: KnownTunings): HostCosts {
  const { context, stream } = gpu;
  const device = { multiprocessors };
  const small = specialised('rmsnorm', { dims: { rows: 1, columns: 4096 } });
  const program = programOf(gpu, small.module, small.s);
  using kernel = new Kernel(context, program);
  using args = new DeviceArgs(context, small.module, small.s, 1);
  const launch = kernel
    .prepare()
    .grid(...small.module.grid(small.s, device))
    .args(args.values);
  const launchMicroseconds = hostMicroseconds(context, 500, 15, () => launch.launch(stream));
  using graph = stream.capture(() => {
    for (let i = 0; i < GRAPH_LAUNCHES; i++) launch.launch(stream);
  });
  using executable = graph.instantiate();
  const options = { launches: GRAPH_LAUNCHES, repeats: 15, warmup: 3 };
  const graphMicroseconds = measureGraph(stream, executable, options).median;
  using kernelApart = new Kernel(context, apart(program));
  const launchApart = kernelApart
    .prepare()
    .grid(...small.module.grid(small.s, device))
    .args(args.values);
  const graphApartMicroseconds = measure(stream, () => launchApart.launch(stream), options).median;
  const graphHostMicroseconds = hostMicroseconds(context, 1, 25, () => executable.launch(stream)) / GRAPH_LAUNCHES;

  const warm: { kernel: string; ms: number }[] = [];
  const firstUse: Record<string, FirstUse> = {};
  for (const module of KERNELS.filter(({ arch = gpu.arch }) => arch === gpu.arch)) {
    const s = largest(gpu, module, tunings);
    if (s === undefined) continue;
    const times: number[] = [];
    for (let round = 0; round < WARM_ROUNDS; round++) {
      const begin = performance.now();
      programOf(gpu, module, s);
      times.push(performance.now() - begin);
    }
    warm.push({ kernel: module.name, ms: median(times) });
    const used = firstUseOf(gpu, module, s);
    firstUse[module.name] = used;
    console.log(
      `${module.name.padEnd(24)} first use ${used.emptyCache.toFixed(0).padStart(5)} ms, with full caches ` +
        `${used.fromCache.toFixed(0)}, image ${used.load.toFixed(1)}, ${(used.ptxBytes / 1024).toFixed(0)} KiB of PTX`,
    );
  }
  warm.sort((a, b) => a.ms - b.ms);
  const slowest = warm.at(-1)!;
  return {
    launchMicroseconds,
    graphMicroseconds,
    graphApartMicroseconds,
    graphHostMicroseconds,
    traceAndEmit: { median: median(warm.map(({ ms }) => ms)), slowest: slowest.ms, kernel: slowest.kernel },
    firstUse,
  };
}

/** The case with the most PTX; undefined where this GPU can have none. */
function largest(gpu: Gpu, module: KernelModule, tunings: KnownTunings): Specialisation | undefined {
  const sized = module.cases.flatMap((wanted) => {
    const s = specialise(module, wanted, tunings);
    try {
      return [{ s, bytes: programOf(gpu, module, s).ptx.length }];
    } catch (error) {
      // A case may need what this GPU lacks.
      if (error instanceof KernelError) return [];
      throw error;
    }
  });
  return sized.toSorted((a, b) => b.bytes - a.bytes).at(0)?.s;
}

/** Traces, emits, compiles and loads a kernel, once with empty caches and then with full ones. */
function firstUseOf(gpu: Gpu, module: KernelModule, s: Specialisation): FirstUse {
  const directory = mkdtempSync(join(tmpdir(), 'rose-bench-'));
  // Neither our cache nor the driver's has this text, whatever was compiled before.
  const mark = `\n// ${randomUUID()}\n`;
  const marked = (): Program => {
    const program = programOf(gpu, module, s);
    return { ...program, ptx: program.ptx + mark };
  };
  try {
    const cache = new CubinCache({ directory });
    const timed = (program: () => Program, cached: boolean): number => {
      const begin = performance.now();
      using kernel = new Kernel(gpu.context, program(), { cache });
      const milliseconds = performance.now() - begin;
      if (kernel.cached !== cached) throw new Error(`${module.name}: the image is ${cached ? 'not ' : ''}in the cache`);
      return milliseconds;
    };
    const program = marked();
    const emptyCache = timed(marked, false);
    const rounds = (of: () => Program): number[] => Array.from({ length: CACHED_ROUNDS }, () => timed(of, true));
    return {
      ptxBytes: program.ptx.length,
      emptyCache,
      fromCache: median(rounds(marked)),
      load: median(rounds(() => program)),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The kernel launched so that it starts when the one before it has ended. */
export function apart(program: Program): Program {
  return { ...program, overlapsPrevious: false };
}

function specialised(name: string, wanted: KernelCase): { module: KernelModule; s: Specialisation } {
  const module = KERNELS.find((kernel) => kernel.name === name)!;
  return { module, s: specialise(module, wanted) };
}

function programOf(gpu: Gpu, module: KernelModule, s: Specialisation): Program {
  return compileKernel(module.trace(s), { arch: gpu.arch }).program;
}
