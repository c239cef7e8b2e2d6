import {
  decodeRing,
  describeRecord,
  formatPosition,
  RING_HEADER_WORDS,
  type Compiled,
  type PrintSite,
} from '@rose/cute';
import {
  cacheDirectory,
  Context,
  copyBandwidth,
  CudaError,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Kernel,
  listDevices,
  loadDriver,
  measure,
  PinnedMemory,
  Stream,
  type KernelResources,
  type PreparedLaunch,
} from '@rose/cuda';
import {
  tuningsFor,
  type Executor,
  type ExecutorArgument,
  type KernelModule,
  type Specialisation,
  type TunedDevice,
  type Tunings,
} from '@rose/kernels';
import { CommandError, ExitCode } from '../errors.ts';
import { RotatedArgs } from './rotated.ts';

/** Bytes for what a kernel prints. */
const RING_BYTES = 1 << 20;
/** Threads that are named for an assertion that fails. */
const MOST_FAILURES = 4;

/** A GPU for the commands that run kernels. */
export interface Gpu extends Disposable {
  readonly context: Context;
  readonly stream: Stream;
  /** `sm_90a` and the like: what kernels are compiled for. */
  readonly arch: string;
}

/** Opens a GPU. Throws CommandError, in one sentence, where there is none. */
export function openGpu(index: number): Gpu {
  try {
    const devices = listDevices(loadDriver());
    const device = devices[index];
    if (!device) {
      throw new CommandError(ExitCode.device, `there is no GPU ${index}: this machine has ${devices.length}.`);
    }
    const context = new Context(device);
    const stream = new Stream(context);
    const arch = `sm_${device.capability}${device.capability >= 90 ? 'a' : ''}`;
    return {
      context,
      stream,
      arch,
      [Symbol.dispose]() {
        context[Symbol.dispose]();
      },
    };
  } catch (error) {
    if (!(error instanceof CudaUnavailableError)) throw error;
    throw new CommandError(ExitCode.device, `${error.message} (\`rose kernel sim\` runs kernels without a GPU.)`, {
      cause: error,
    });
  }
}

/** The GPU as tables of tunings know it. */
export function tunedDevice({ context: { device }, arch }: Gpu): TunedDevice {
  return { name: device.name, arch, multiprocessors: device.attribute('multiprocessors') };
}

/** What was measured to be fast on this GPU, as `rose tune` keeps it; `say` gets what is left out. */
export function tuningsOf(gpu: Gpu, say: (line: string) => void): Tunings {
  return tuningsFor(tunedDevice(gpu), { directory: cacheDirectory('tuning'), onWarning: say });
}

/** The GPU as an executor of compiled kernels; `say` gets what they print. */
export function gpuExecutor(gpu: Gpu, say: (line: string) => void): Executor<Compiled> {
  return {
    name: gpu.context.device.toString(),
    run(compiled, args, grid) {
      using kernel = new Kernel(gpu.context, compiled.program);
      const spills = kernel.resources ? spillsOf(kernel.resources) : 0;
      if (spills > 0) {
        say(`${compiled.program.name}: its threads spill ${spills} bytes; give them fewer values, or shared memory.`);
      }
      const launch = kernel.prepare().grid(...grid);
      using ring = compiled.sites.length > 0 ? openRing(gpu.context, launch) : undefined;
      const tensors: [ExecutorArgument & object, DeviceMemory][] = [];
      try {
        for (const [name, argument] of Object.entries(args)) {
          if (typeof argument === 'number') {
            launch.set(name, argument);
            continue;
          }
          const memory = new DeviceMemory(gpu.context, argument.bytes.length);
          memory.write(argument.bytes);
          tensors.push([argument, memory]);
          const tensor = memory.slice(argument.offset, argument.length);
          const { map } = argument;
          launch.set(name, map ? encodeTensorMap(gpu.context, { ...map, memory: tensor }) : tensor);
        }
        launch.launch(gpu.stream);
        try {
          gpu.stream.synchronize();
        } catch (error) {
          if (!(error instanceof CudaError)) throw error;
          throw new CommandError(ExitCode.usage, `kernel ${compiled.program.name}: ${error.message}.`, {
            cause: error,
          });
        } finally {
          // Pinned memory outlives the device: an assertion says its message although the launch failed.
          if (ring) for (const line of printed(ring, compiled)) say(line);
        }
        for (const [argument, memory] of tensors) memory.read(argument.bytes);
      } finally {
        if (!gpu.context.lost) for (const [, memory] of tensors) memory[Symbol.dispose]();
      }
    },
  };
}

export interface Timing {
  /** Median microseconds of a launch, replayed from a graph, and of its fastest and slowest replay. */
  readonly median: number;
  readonly fastest: number;
  readonly slowest: number;
  /** Bytes a second of the fewest bytes that the kernel could move, and their share of a copy's. */
  readonly bandwidth: number;
  readonly shareOfCopy: number;
  /** Operations a second. */
  readonly rate: number;
  /** Sets of inputs that were rotated. */
  readonly sets: number;
  /** Registers of a thread, and bytes that it spills, where the assembler said so. */
  readonly registers?: number;
  readonly spills?: number;
}

/** Times a kernel on random inputs that no cache holds, but for those of small cases, which rotate in the cache. */
export function timeKernel(
  gpu: Gpu,
  module: KernelModule,
  s: Specialisation,
  compiled: Compiled,
  copy: number,
): Timing {
  const { context, stream } = gpu;
  using kernel = new Kernel(context, compiled.program);
  using ring = compiled.sites.length > 0 ? new PinnedMemory(context, RING_BYTES) : undefined;
  using args = new RotatedArgs(gpu, module, s);
  const launches = args.launches(kernel, module, s, ring ? { ring: ring.address } : {});
  const count = launches.length;
  const { median, fastest, slowest } = measure(stream, (n) => launches[n % count].launch(stream), {
    launches: Math.max(20, count),
    repeats: 31,
  });
  const roofline = module.roofline(s.dims, s.options);
  const bandwidth = (roofline.bytes * 1e6) / median;
  const rate = (roofline.flops * 1e6) / median;
  const { resources } = kernel;
  const times = { median, fastest, slowest, bandwidth, shareOfCopy: bandwidth / copy, rate, sets: count };
  return resources ? { ...times, registers: resources.registers, spills: spillsOf(resources) } : times;
}

/** Bytes that a thread moves to and from local memory for lack of registers. */
export function spillsOf({ spillStoreBytes, spillLoadBytes }: KernelResources): number {
  return spillStoreBytes + spillLoadBytes;
}

export function copyOf(gpu: Gpu): number {
  return copyBandwidth(gpu.stream);
}

function openRing(context: Context, launch: PreparedLaunch): PinnedMemory {
  const ring = new PinnedMemory(context, RING_BYTES);
  const words = new Uint32Array(ring.buffer);
  words.fill(0);
  words[1] = words.length - RING_HEADER_WORDS;
  launch.set('ring', ring.address);
  return ring;
}

function printed(ring: PinnedMemory, { sites }: Compiled): string[] {
  const { records, overflowed } = decodeRing(new Uint8Array(ring.buffer), sites);
  // A failed assertion fails in many threads: the first few of each say enough.
  const seen = new Map<PrintSite, number>();
  const lines: string[] = [];
  for (const record of records) {
    const before = seen.get(record.site) ?? 0;
    seen.set(record.site, before + 1);
    if (record.site.kind === 'print' || before < MOST_FAILURES) lines.push(describeRecord(record));
  }
  for (const [{ kind, position }, count] of seen) {
    if (kind === 'assert' && count > MOST_FAILURES) {
      lines.push(`${formatPosition(position)} and ${count - MOST_FAILURES} more threads`);
    }
  }
  return overflowed ? [...lines, '(more was printed than the buffer holds)'] : lines;
}
