import type { FakeCalls, FakeDriver } from './driver.ts';
import { FakeFault } from './memory.ts';
import { KernelFailure, type FakeFunction, type FakeLaunch } from './module-calls.ts';
import { enqueue, nodeOf } from './stream-calls.ts';

type Axes = [number, number, number];

/**
 * Launches and tensor maps. Offsets are written out as in `cuda.h`, apart from those in src/structs.ts, so that a slip
 * there shows.
 */
export function executionCalls(fake: FakeDriver): FakeCalls {
  const { memory } = fake;
  const view = (address: number, bytes: number): DataView => memory.hostView(address, bytes);
  const word = (data: DataView, at: number): number => Number(data.getBigUint64(at, true));
  const axes = (data: DataView, at: number): Axes => [
    data.getUint32(at, true),
    data.getUint32(at + 4, true),
    data.getUint32(at + 8, true),
  ];

  /**
   * The parameters behind an array of pointers. How many there are a driver knows from the kernel; the fake relies on
   * PreparedLaunch, which lays them out one behind the other at the end of its memory.
   */
  const parameters = (pointers: number): DataView => {
    const first = word(view(pointers, 8), 0);
    return new DataView(first === 0 ? new ArrayBuffer(0) : memory.rest(first).slice().buffer);
  };

  const run = (kernel: FakeFunction, launch: Omit<FakeLaunch, 'memory'>): void => {
    fake.get('module', kernel.module);
    const body = fake.options.kernels?.[kernel.name];
    if (!body) throw new FakeFault(`the fake has no kernel ${kernel.name}`);
    try {
      body({ ...launch, memory: (address, bytes) => memory.at(address, bytes) });
    } catch (error) {
      if (error instanceof KernelFailure) fake.sticky = error.code;
      else if (error instanceof FakeFault) fake.sticky = 700;
      else throw error;
    }
  };

  return {
    cuLaunchKernelEx: (configAddress, handle, params, extra) => {
      const config = view(configAddress, 56);
      const kernel = fake.get<FakeFunction>('function', handle);
      if (extra !== 0) throw new FakeFault('parameters are given one by one');
      const grid = axes(config, 0);
      const block = axes(config, 12);
      const sharedBytes = config.getUint32(24, true);
      let cluster: Axes | undefined;
      let overlapsPrevious = false;
      let cooperative = false;
      for (let at = 0; at < config.getUint32(48, true); at++) {
        const attribute = view(word(config, 40) + 72 * at, 72);
        const id = attribute.getInt32(0, true);
        if (id === 4) cluster = axes(attribute, 8);
        else if (id === 6) overlapsPrevious = attribute.getInt32(8, true) === 1;
        else if (id === 2) cooperative = attribute.getInt32(8, true) === 1;
        else throw new FakeFault(`unknown launch attribute ${id}`);
      }
      if ([...grid, ...block].includes(0) || block[0] * block[1] * block[2] > 1024) return 1;
      if (cluster?.some((size, axis) => grid[axis] % size !== 0)) return 1;
      if (sharedBytes > kernel.maxDynamicShared) return 1;
      const launch = { grid, block, sharedBytes, cluster, overlapsPrevious, cooperative, params: parameters(params) };
      return enqueue(fake, word(config, 32), () => run(kernel, launch), { function: handle, grid });
    },
    cuGraphKernelNodeGetParams_v2: (node, out) => {
      const { kernel } = fake.get<{ kernel?: { function: number; grid: readonly number[] } }>('node', node);
      if (!kernel) return 1;
      const data = memory.hostView(out, 72);
      data.setBigUint64(0, BigInt(kernel.function), true);
      for (const [at, size] of kernel.grid.entries()) data.setUint32(8 + 4 * at, size, true);
      return undefined;
    },
    cuGraphExecKernelNodeSetParams_v2: (graph, node, params) => {
      const data = memory.hostView(params, 72);
      const kernel = fake.get<FakeFunction>('function', word(data, 0));
      const target = nodeOf(fake, graph, node);
      if (target.kind !== 'kernel') return 1;
      const launch = {
        grid: axes(data, 8),
        block: axes(data, 20),
        sharedBytes: data.getUint32(32, true),
        cluster: undefined,
        overlapsPrevious: false,
        cooperative: false,
        params: parameters(word(data, 40)),
      };
      if (word(data, 48) !== 0) throw new FakeFault('parameters are given one by one');
      target.run = () => run(kernel, launch);
      return undefined;
    },
    cuTensorMapEncodeTiled: (out, type, rank, address, shape, strides, box, elementStrides, interleave, swizzle) => {
      if (out % 64 !== 0) throw new FakeFault('a tensor map must lie at a multiple of 64');
      memory.at(address, 1);
      for (const [data, bytes] of [
        [shape, 8 * rank],
        [strides, 8 * (rank - 1)],
        [box, 4 * rank],
        [elementStrides, 4 * rank],
      ] as const) {
        memory.host(data, bytes);
      }
      const map = memory.at(out, 128).fill(0);
      map.set([type, rank, interleave, swizzle]);
      return undefined;
    },
  };
}
