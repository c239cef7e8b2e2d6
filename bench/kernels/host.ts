import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CubinCache, Kernel, measure, measureGraph } from '@rose/cuda';
import { compileKernel, type Program } from '@rose/cute';
import { KERNELS, specialise, type KernelCase, type KernelModule, type Specialisation } from '@rose/kernels';
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
  /** From the specification to the end of a first launch, by kernel. */
  readonly firstUse: Readonly<Record<string, { readonly emptyCache: number; readonly fromCache: number }>>;
}

const GRAPH_LAUNCHES = 300;
const WARM_ROUNDS = 60;

export function hostCosts(gpu: Gpu, multiprocessors: number): HostCosts {
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
  const firstUse: Record<string, { emptyCache: number; fromCache: number }> = {};
  for (const module of KERNELS.filter(({ arch = gpu.arch }) => arch === gpu.arch)) {
    const s = specialise(module, module.cases[1] ?? module.cases[0]);
    const times: number[] = [];
    for (let round = 0; round < WARM_ROUNDS; round++) {
      const begin = performance.now();
      programOf(gpu, module, s);
      times.push(performance.now() - begin);
    }
    warm.push({ kernel: module.name, ms: median(times) });
    firstUse[module.name] = firstUseOf(gpu, module, s, device);
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

/** Traces, emits, compiles, loads and runs a kernel, once with an empty cache and once with a filled one. */
function firstUseOf(
  gpu: Gpu,
  module: KernelModule,
  s: Specialisation,
  device: { readonly multiprocessors: number },
): { emptyCache: number; fromCache: number } {
  const { context, stream } = gpu;
  const directory = mkdtempSync(join(tmpdir(), 'rose-bench-'));
  try {
    using args = new DeviceArgs(context, module, s, 1);
    const once = (): number => {
      const begin = performance.now();
      using kernel = new Kernel(context, programOf(gpu, module, s), { cache: new CubinCache({ directory }) });
      kernel
        .prepare()
        .grid(...module.grid(s, device))
        .args(args.values)
        .launch(stream);
      stream.synchronize();
      return performance.now() - begin;
    };
    const emptyCache = once();
    const fromCache = median([once(), once(), once()]);
    return { emptyCache, fromCache };
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
