import { test } from 'node:test';
import { emitPtx } from '../../cute/src/ptx/emit.ts';
import { CASES, type KernelCase, type Launch, type Memory } from '../../cute/test/fixtures/cases.ts';
import { prepare } from '../../cute/test/prepare.ts';
import {
  Context,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  listDevices,
  loadDriver,
  Module,
  PreparedLaunch,
  Stream,
  type Argument,
  type Device,
  type LaunchFacts,
  type TensorMapOptions,
} from '../src/index.ts';

/** The kernels of tensor cores, TMA, clusters, dependent grids and flags on a Hopper GPU, where there is one. */

function findDevice(): Device | string {
  try {
    const device = listDevices(loadDriver()).find(({ capability }) => capability === 90);
    return device ?? 'no Hopper GPU (compute capability 9.0)';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

const device = findDevice();
const skip = typeof device === 'string' && device;
const SWIZZLES = { none: 'none', '32': '32B', '64': '64B', '128': '128B' } as const;

/** Launches what a case says and brings the memory back. */
function run(context: Context, { buffers, launches }: KernelCase): Record<string, Memory> {
  const memory = new Map<string, DeviceMemory>();
  for (const [name, { data }] of Object.entries(buffers)) {
    const room = new DeviceMemory(context, data.byteLength);
    room.write(data);
    memory.set(name, room);
  }
  const argumentOf = (argument: Launch['args'][number]): Argument => {
    if (typeof argument === 'number') return argument;
    if (typeof argument === 'string') return memory.get(argument)!;
    const { map, shape, box, swizzle } = argument;
    const type = buffers[map].element as TensorMapOptions['type'];
    return encodeTensorMap(context, { type, memory: memory.get(map)!, shape, box, swizzle: SWIZZLES[swizzle] });
  };
  using stream = new Stream(context);
  const modules: Module[] = [];
  for (const { kernel, grid, args } of launches) {
    const ptx = emitPtx(prepare(kernel), { arch: 'sm_90a' });
    const module = new Module(context, new TextEncoder().encode(`${ptx.text}\0`));
    modules.push(module);
    const facts: LaunchFacts = {
      params: ptx.params.map((place, i) => {
        const param = kernel.params[i];
        const kind = param.kind === 'tensor' ? 'pointer' : param.kind === 'tensormap' ? 'tensormap' : 'i32';
        return { name: place.name, kind, offset: place.offset, size: place.size };
      }),
      paramBytes: ptx.paramBytes,
      sharedBytes: ptx.sharedBytes,
      threads: kernel.threads,
      ...(kernel.cluster ? { cluster: kernel.cluster } : {}),
      ...(kernel.overlapsPrevious ? { overlapsPrevious: true } : {}),
    };
    const launch = new PreparedLaunch(module.function(ptx.name), facts).grid(...grid);
    for (const [i, argument] of args.entries()) launch.set(ptx.params[i].name, argumentOf(argument));
    launch.launch(stream);
  }
  stream.synchronize();
  const out = Object.fromEntries(
    Object.entries(buffers).map(([name, { element, data }]) => {
      const result = data.slice();
      memory.get(name)!.read(result);
      return [name, { element, data: result }];
    }),
  );
  for (const owned of [...modules, ...memory.values()]) owned[Symbol.dispose]();
  return out;
}

for (const make of CASES) {
  const kernelCase = make();
  test(`${kernelCase.name} on the GPU`, { skip }, () => {
    using context = new Context(device as Device);
    kernelCase.check(run(context, kernelCase));
  });
}
