import { test } from 'node:test';
import { compileKernel } from '../../cute/src/compile.ts';
import { CASES, type KernelCase, type Launch, type Memory } from '../../cute/test/fixtures/cases.ts';
import {
  Context,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Kernel,
  listDevices,
  loadDriver,
  Stream,
  type Argument,
  type Device,
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
    const element = buffers[map].element as TensorMapOptions['element'];
    return encodeTensorMap(context, { element, memory: memory.get(map)!, shape, box, swizzle });
  };
  using stream = new Stream(context);
  const kernels: Kernel[] = [];
  for (const { kernel, grid, args } of launches) {
    const { program } = compileKernel(kernel, { arch: 'sm_90a' });
    const compiled = new Kernel(context, program, { cache: false });
    kernels.push(compiled);
    const launch = compiled.prepare().grid(...grid);
    for (const [i, argument] of args.entries()) launch.set(program.params[i].name, argumentOf(argument));
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
  for (const owned of [...kernels, ...memory.values()]) owned[Symbol.dispose]();
  return out;
}

for (const make of CASES) {
  const kernelCase = make();
  test(`${kernelCase.name} on the GPU`, { skip }, () => {
    using context = new Context(device as Device);
    kernelCase.check(run(context, kernelCase));
  });
}
