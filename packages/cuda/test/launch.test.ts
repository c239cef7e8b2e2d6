import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CudaError,
  CudaUsageError,
  DeviceMemory,
  encodeTensorMap,
  layoutParameters,
  Module,
  PreparedLaunch,
  Stream,
  type LaunchFacts,
} from '../src/index.ts';
import { fakeContext, fakeImage } from './fake/setup.ts';
import { KernelFailure, type FakeKernel, type FakeLaunch } from './fake/module-calls.ts';

const ADD: LaunchFacts = {
  ...layoutParameters([
    { name: 'n', kind: 'i32' },
    { name: 'x', kind: 'pointer', align: 16 },
    { name: 'y', kind: 'pointer' },
    { name: 'scale', kind: 'f32' },
  ]),
  sharedBytes: 0,
  threads: [128, 1, 1],
};

/** y = y + scale * x over n elements of float32. */
const add: FakeKernel = ({ params, memory }) => {
  const n = params.getInt32(0, true);
  const at = (offset: number): Float32Array => {
    const bytes = memory(Number(params.getBigUint64(offset, true)), 4 * n);
    return new Float32Array(bytes.buffer, bytes.byteOffset, n);
  };
  const [x, y, scale] = [at(8), at(16), params.getFloat32(24, true)];
  for (let i = 0; i < n; i++) y[i] += scale * x[i];
};

test('a prepared launch packs its parameters, and its fields change between launches', () => {
  using setup = fakeContext({ kernels: { add } });
  const { context, fake } = setup;
  using module = new Module(context, fakeImage('add'));
  using stream = new Stream(context);
  using x = new DeviceMemory(context, 16);
  using y = new DeviceMemory(context, 16);
  x.write(new Float32Array([1, 2, 3, 4]));
  y.write(new Float32Array([10, 20, 30, 40]));
  const launch = new PreparedLaunch(module.function('add'), ADD).grid(1).args({ n: 4, x, y, scale: 2 });
  launch.launch(stream);
  const setN = launch.setter('n');
  setN(1);
  launch.set('scale', 0.5).launch(stream);
  const back = new Float32Array(4);
  y.read(back);
  assert.deepEqual([...back], [12.5, 24, 36, 48]);
  assert.equal(fake.counts.get('cuLaunchKernelEx'), 2);
});

test('parameters lie where PTX has them', () => {
  const { params, paramBytes } = layoutParameters([
    { name: 'a', kind: 'u8' },
    { name: 'map', kind: 'tensormap' },
    { name: 'b', kind: 'f16' },
    { name: 'c', kind: 'u64' },
    { name: 'd', kind: 'bytes', size: 12, align: 4 },
  ]);
  assert.deepEqual(
    params.map(({ offset, size }) => [offset, size]),
    [
      [0, 1],
      [64, 128],
      [192, 2],
      [200, 8],
      [208, 12],
    ],
  );
  assert.equal(paramBytes, 220);
  assert.throws(() => layoutParameters([{ name: 'd', kind: 'bytes' }]), /needs a size/);
});

test('attributes, grid, threads and shared memory reach the driver', () => {
  const seen: FakeLaunch[] = [];
  using setup = fakeContext({ kernels: { look: (launch) => void seen.push(launch) } });
  using module = new Module(setup.context, fakeImage('look'));
  using stream = new Stream(setup.context);
  const facts: LaunchFacts = {
    params: [],
    paramBytes: 0,
    sharedBytes: 100_000,
    threads: [32, 2, 3],
    cluster: [2, 1, 1],
    overlapsPrevious: true,
    cooperative: true,
  };
  const launch = new PreparedLaunch(module.function('look'), facts).grid(4, 5, 6);
  assert.equal(launch.activeClusters(), 16);
  launch.launch(stream);
  new PreparedLaunch(module.function('look'), {
    ...facts,
    cluster: undefined,
    overlapsPrevious: false,
    cooperative: false,
  } as unknown as LaunchFacts)
    .grid(1)
    .launch(stream);
  const [{ grid, block, sharedBytes, cluster, overlapsPrevious, cooperative }, second] = seen;
  assert.deepEqual(
    { grid, block, sharedBytes, cluster, overlapsPrevious, cooperative },
    {
      grid: [4, 5, 6],
      block: [32, 2, 3],
      sharedBytes: 100_000,
      cluster: [2, 1, 1],
      overlapsPrevious: true,
      cooperative: true,
    },
  );
  assert.deepEqual([second.cluster, second.overlapsPrevious, second.cooperative], [undefined, false, false]);
  assert.throws(
    () => launch.grid(3).launch(stream),
    (error) =>
      error instanceof CudaError &&
      /for kernel look, grid 3x1x1, 32x2x3 threads, 100000 bytes of dynamic/.test(error.message),
  );
});

test('launches overlap only under drivers that capture them so', () => {
  for (const [version, expected] of [
    [12_020, false],
    [12_030, true],
  ] as const) {
    const seen: FakeLaunch[] = [];
    using setup = fakeContext({ version, kernels: { look: (launch) => void seen.push(launch) } });
    using module = new Module(setup.context, fakeImage('look'));
    using stream = new Stream(setup.context);
    const facts: LaunchFacts = {
      params: [],
      paramBytes: 0,
      sharedBytes: 0,
      threads: [32, 1, 1],
      overlapsPrevious: true,
    };
    new PreparedLaunch(module.function('look'), facts).grid(1).launch(stream);
    assert.deepEqual(
      seen.map(({ overlapsPrevious }) => overlapsPrevious),
      [expected],
    );
  }
});

test('every kind of parameter is stored in its own width, and refused out of range', () => {
  let bytes: Uint8Array = new Uint8Array();
  using setup = fakeContext({ kernels: { look: ({ params }) => void (bytes = new Uint8Array(params.buffer)) } });
  using module = new Module(setup.context, fakeImage('look'));
  using stream = new Stream(setup.context);
  using memory = new DeviceMemory(setup.context, 4096);
  const layout = layoutParameters([
    { name: 'i8', kind: 'i8' },
    { name: 'u8', kind: 'u8' },
    { name: 'i16', kind: 'i16' },
    { name: 'u16', kind: 'u16' },
    { name: 'f16', kind: 'f16' },
    { name: 'bf16', kind: 'bf16' },
    { name: 'f64', kind: 'f64' },
    { name: 'i64', kind: 'i64' },
    { name: 'u64', kind: 'u64' },
    { name: 'p', kind: 'pointer', align: 16 },
    { name: 'map', kind: 'tensormap' },
    { name: 'raw', kind: 'bytes', size: 4 },
  ]);
  const map = encodeTensorMap(setup.context, { element: 'bf16', memory, shape: [64, 4], box: [64, 4], swizzle: '128' });
  const launch = new PreparedLaunch(module.function('look'), { ...layout, sharedBytes: 0, threads: [1, 1, 1] }).grid(1);
  assert.throws(() => launch.launch(stream), /lacks its parameters i8, u8, .*raw/);
  launch.args({
    i8: -1,
    u8: 255,
    i16: -2,
    u16: 65535,
    f16: 1.5,
    bf16: 1 + 2 ** -7 + 2 ** -9,
    f64: 0.1,
    i64: -1n,
    u64: 2n ** 63n,
  });
  launch.args({ p: memory, map, raw: new Uint8Array([1, 2, 3, 4]) }).launch(stream);
  const view = new DataView(bytes.buffer);
  const at = (name: string): number => layout.params.find((param) => param.name === name)?.offset ?? -1;
  assert.equal(view.getInt8(at('i8')), -1);
  assert.equal(view.getUint8(at('u8')), 255);
  assert.equal(view.getInt16(at('i16'), true), -2);
  assert.equal(view.getUint16(at('u16'), true), 65535);
  assert.equal(view.getFloat16(at('f16'), true), 1.5);
  assert.equal(view.getUint16(at('bf16'), true), 0x3f81);
  assert.equal(view.getFloat64(at('f64'), true), 0.1);
  assert.equal(view.getBigInt64(at('i64'), true), -1n);
  assert.equal(view.getBigUint64(at('u64'), true), 2n ** 63n);
  assert.equal(view.getBigUint64(at('p'), true), BigInt(memory.address));
  assert.deepEqual([...bytes.subarray(at('map'), at('map') + 4)], [9, 2, 0, 3]);
  assert.deepEqual([...bytes.subarray(at('raw'))], [1, 2, 3, 4]);

  const wrong: Record<string, unknown[]> = {
    i8: [128, 1.5, memory],
    u8: [-1],
    u16: [65536],
    u64: [0.5, 'text'],
    p: [memory.slice(8), 'text', map],
    map: [memory, 1],
    raw: [new Uint8Array(3), 4],
    nothing: [1],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      assert.throws(
        () => launch.set(name, value as number),
        (error) => error instanceof CudaUsageError && error.message.includes(name),
      );
    }
  }
});

test('a launch without a grid, or with memory the device lacks, is refused in words', () => {
  using setup = fakeContext({ kernels: { look: () => undefined } });
  using module = new Module(setup.context, fakeImage('look'));
  using stream = new Stream(setup.context);
  const facts: LaunchFacts = { params: [], paramBytes: 0, sharedBytes: 0, threads: [1, 1, 1] };
  assert.throws(() => new PreparedLaunch(module.function('look'), facts).launch(stream), /look has no grid yet/);
  assert.throws(
    () => new PreparedLaunch(module.function('look'), { ...facts, sharedBytes: 240_000 }),
    /asks for 240000 bytes of dynamic shared memory and GPU 0 \(Fake GPU 0\) has 231424 for it/,
  );
});

test('launches after their module, stream or context is gone do not reach the driver', () => {
  using setup = fakeContext({ kernels: { look: () => undefined } });
  const { context, fake } = setup;
  const module = new Module(context, fakeImage('look'));
  const stream = new Stream(context);
  using other = new Stream(context);
  const launch = new PreparedLaunch(module.function('look'), {
    params: [],
    paramBytes: 0,
    sharedBytes: 0,
    threads: [1, 1, 1],
  });
  launch.grid(1).launch(stream);
  stream[Symbol.dispose]();
  assert.throws(() => launch.launch(stream), /stream was disposed/);
  launch.launch(other);
  module[Symbol.dispose]();
  assert.throws(() => launch.launch(other), /module was disposed/);
  assert.equal(fake.counts.get('cuLaunchKernelEx'), 2);
});

test('modules give functions, their facts, and globals', () => {
  using setup = fakeContext();
  using module = new Module(setup.context, fakeImage('one', 'two'));
  const one = module.function('one');
  assert.equal(module.function('one'), one);
  assert.deepEqual(one.facts(), {
    registers: 24,
    localBytes: 8,
    staticSharedBytes: 1024,
    constantBytes: 0,
    maxThreads: 1024,
    binaryVersion: 90,
  });
  assert.equal(one.occupancy(256), 8);
  one.preferSharedCarveout(100);
  one.allowLargeClusters();
  assert.throws(() => module.function('three'), /NOT_FOUND/);
  const table = module.global('table');
  table.write(new Uint8Array([7]));
  assert.equal(table.bytes, 64);
  assert.throws(() => new Module(setup.context, new Uint8Array(16)), /INVALID_IMAGE/);
});

test('a kernel that fails makes the device unusable', () => {
  const fail: FakeKernel = () => {
    throw new KernelFailure(719);
  };
  const setup = fakeContext({ kernels: { fail } });
  const module = new Module(setup.context, fakeImage('fail'));
  const stream = new Stream(setup.context);
  const launch = new PreparedLaunch(module.function('fail'), {
    params: [],
    paramBytes: 0,
    sharedBytes: 0,
    threads: [1, 1, 1],
  }).grid(1);
  assert.throws(() => launch.launch(stream), /LAUNCH_FAILED/);
  assert.throws(() => launch.launch(stream), /not called/);
});
