import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Context,
  CudaError,
  CudaUnavailableError,
  CudaUsageError,
  Device,
  DeviceLostError,
  DeviceMemory,
  Driver,
  listDevices,
  openDriver,
} from '../src/index.ts';
import { FakeDriver } from './fake/driver.ts';
import { fakeContext } from './fake/setup.ts';

test('a machine without a driver, without a GPU, or with an old one is told so in one sentence', () => {
  const cases: [() => unknown, RegExp][] = [
    [
      () => openDriver(['libcuda-that-nobody-has.so.1', 'libcuda-nor-this.so.1']),
      // The loader's own words stand there once.
      /^No NVIDIA driver was found \(libcuda-that-nobody-has\.so\.1, libcuda-nor-this\.so\.1: [^;]*\): install driver 525 .*\.$/,
    ],
    [() => openDriver([]), /^There is no NVIDIA driver for \w+: use the CPU device\.$/],
    [
      () => new Driver(new FakeDriver({ init: 100 })),
      /does not start \(CUDA_ERROR_NO_DEVICE: the driver finds no GPU\); check nvidia-smi/,
    ],
    [
      () => new Driver(new FakeDriver({ version: 11_040 })),
      /supports CUDA 11\.4 only, and Rose needs CUDA 12\.0: update/,
    ],
    [() => new Driver(new FakeDriver({ without: ['cuLaunchKernelEx'] })), /lacks cuLaunchKernelEx, and Rose needs/],
    [
      () => listDevices(new Driver(new FakeDriver({ devices: 0 }))),
      /shows no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES/,
    ],
  ];
  for (const [open, message] of cases) {
    assert.throws(
      open,
      (error) => error instanceof CudaUnavailableError && message.test(error.message) && !error.message.includes('\n'),
    );
  }
});

test('devices are described', () => {
  const driver = new Driver(new FakeDriver({ devices: 2 }));
  const devices = listDevices(driver);
  assert.deepEqual(
    devices.map(({ name, capability, memoryBytes }) => ({ name, capability, memoryBytes })),
    [0, 1].map((at) => ({ name: `Fake GPU ${at}`, capability: 90, memoryBytes: 80 * 2 ** 30 })),
  );
  assert.equal(devices[1].uuid, 'GPU-11111111-1111-1111-1111-111111111111');
  assert.equal(devices[1].pciBusId, '0000:01:00.0');
  assert.equal(devices[0].attribute('multiprocessors'), 4);
  assert.ok(devices[0].reaches(devices[1]));
  assert.throws(() => new Device(driver, 2), /there is no GPU 2: this machine shows 2/);
});

test('contexts are retained and released, and each call runs in its own', () => {
  const fake = new FakeDriver({ devices: 2 });
  const driver = new Driver(fake);
  const first = new Context(new Device(driver, 0));
  const second = new Context(new Device(driver, 1));
  const again = new Context(new Device(driver, 0));
  assert.deepEqual(fake.live(), { 'context of 0': 2, 'context of 1': 1 });
  first.synchronize();
  assert.equal(fake.context, first.handle);
  second.synchronize();
  assert.equal(fake.context, second.handle);
  second.synchronize();
  assert.equal(fake.counts.get('cuCtxSetCurrent'), 2, 'a context that is current is not set again');
  for (const context of [first, second, again]) context[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.deepEqual(fake.live(), {});
  assert.throws(() => first.synchronize(), /was disposed already/);
});

test('an error names the call, the device, the meaning and what to do', () => {
  using setup = fakeContext();
  assert.throws(
    () => new DeviceMemory(setup.context, 2 ** 40),
    (error) =>
      error instanceof CudaError &&
      error.code === 2 &&
      error.call === 'cuMemAlloc_v2' &&
      !error.sticky &&
      error.message.startsWith(
        'cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY on GPU 0 (Fake GPU 0): the device (or pinned host memory) has not enough free memory; use a smaller model',
      ),
  );
  setup.fake.inject('cuCtxSynchronize', 12345);
  assert.throws(() => setup.context.synchronize(), /CUDA error 12345/);
  setup.context.synchronize();
});

test('a sticky error makes the device unusable, and each later call says so', () => {
  const fake = new FakeDriver();
  const context = new Context(new Device(new Driver(fake), 0));
  const memory = new DeviceMemory(context, 16);
  fake.inject('cuCtxSynchronize', 700);
  assert.throws(
    () => context.synchronize(),
    (error) =>
      error instanceof CudaError &&
      error.sticky &&
      /ILLEGAL_ADDRESS.*unusable for this process; restart/.test(error.message),
  );
  const calls = fake.counts.get('cuMemAlloc_v2');
  assert.throws(
    () => new DeviceMemory(context, 16),
    (error) =>
      error instanceof DeviceLostError &&
      error.cause === context.lost &&
      /cuMemAlloc_v2.*not called: GPU 0 .* is unusable since cuCtxSynchronize failed/.test(error.message),
  );
  assert.equal(fake.counts.get('cuMemAlloc_v2'), calls);
  memory[Symbol.dispose]();
  context[Symbol.dispose]();
});

test('what is alive when a context goes is freed by it, youngest first', () => {
  const fake = new FakeDriver();
  const context = new Context(new Device(new Driver(fake), 0));
  const kept = new DeviceMemory(context, 16);
  assert.deepEqual(context.live(), { 'device memory': 1 });
  context[Symbol.dispose]();
  assert.deepEqual(fake.live(), {});
  assert.throws(
    () => kept.address,
    (error) => error instanceof CudaUsageError && /device memory was disposed/.test(error.message),
  );
});

test('the fake itself finds leaks, double frees, uses after free and wrong handles', () => {
  const fake = new FakeDriver();
  const driver = new Driver(fake);
  const context = new Context(new Device(driver, 0));
  const memory = new DeviceMemory(context, 16);
  const { address } = memory;
  assert.deepEqual(fake.live(), { device: 1, 'context of 0': 1 });
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  assert.equal(fake.faults.length, 0, 'disposing twice calls the driver once');
  assert.throws(() => context.run('cuMemFree_v2', address), CudaError);
  assert.throws(() => context.run('cuMemcpyHtoDAsync_v2', address, new Uint8Array(4), 4, 0), CudaError);
  assert.throws(() => context.run('cuStreamSynchronize', 77), CudaError);
  assert.deepEqual(
    fake.faults.map((fault) => fault.replace(/0x\w+/, 'X')),
    [
      'double free of X (device)',
      'cuMemcpyHtoDAsync_v2: use after free at X (device)',
      'cuStreamSynchronize: X is no stream',
    ],
  );
});
