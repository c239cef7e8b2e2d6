import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeContext } from '../../cuda/test/fake/setup.ts';
import type { FakeDriver } from '../../cuda/test/fake/driver.ts';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';
import { kernelNamed } from '../src/device/cuda/kernels.ts';
import { RoseError } from '../src/errors.ts';
import { withOwnCaches } from './own-caches.ts';

const OUT_OF_MEMORY = 2;
const NOT_READY = 600;

/** A GPU behind a driver in TypeScript. */
async function withGpu(body: (gpu: DriverGpu, fake: FakeDriver) => Promise<void> | void): Promise<void> {
  await withOwnCaches(async () => {
    const setup = fakeContext({ kernels: { rmsnorm: () => undefined } });
    const gpu = DriverGpu.open(0, undefined, () => setup.driver);
    try {
      await body(gpu, setup.fake);
    } finally {
      gpu.close();
    }
    // A driver that is asked for nothing any more keeps what it has.
    if (gpu.lost === undefined) setup[Symbol.dispose]();
  });
}

function unavailable(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RoseError);
    assert.equal(error.code, 'unavailable');
    assert.match(error.message, pattern);
    return true;
  };
}

test('memory that cannot be had is an error that says how much, where, and what to do', async () => {
  await withGpu(async (gpu, fake) => {
    fake.inject('cuMemAlloc_v2', OUT_OF_MEMORY);
    assert.throws(() => gpu.alloc(2 ** 31), unavailable(/^GPU 0 .* has no room for 2\.00 GiB more: .* are free$/));
    fake.inject('cuMemHostAlloc', OUT_OF_MEMORY);
    assert.throws(
      () => gpu.pinned(3 * 2 ** 20),
      unavailable(/^the host has no room for 3\.0 MiB of pinned memory, which GPU 0 .* ulimit -l/),
    );
    const module = kernelNamed('rmsnorm');
    const wanted = { dims: { rows: 8, columns: 256 } };
    fake.inject('cuModuleLoadDataEx', OUT_OF_MEMORY);
    assert.throws(
      () => gpu.load(module, wanted),
      unavailable(/no room for a kernel's module: .* are free; a smaller --memory-share/),
    );
    fake.inject('cuModuleLoadDataEx', OUT_OF_MEMORY);
    await assert.rejects(
      // The image is in the cache since the first time.
      gpu.loadAll([{ module, wanted }], new AbortController().signal),
      unavailable(/no room for a kernel's module/),
    );
    // Nothing is broken by it.
    gpu.load(module, wanted).free();
    gpu.alloc(256).free();
    gpu.pinned(256).free();
  });
});

test('work that does not end holds nobody up: neither a step nor who waits before it closes', async () => {
  for (const wait of ['a step', 'closing'] as const) {
    await withGpu(async (gpu, fake) => {
      const pinned = gpu.pinned(256);
      const hangs = (name: string): number => (name === 'cuEventQuery' || name === 'cuStreamQuery' ? NOT_READY : 0);
      fake.onCall = hangs;
      if (wait === 'a step')
        await assert.rejects(gpu.stream.settled(20), /CUDA_ERROR_LAUNCH_TIMEOUT: no end after 0.02 s/);
      else assert.throws(() => gpu.stream.synchronize(20), /CUDA_ERROR_LAUNCH_TIMEOUT: no end after 0.02 s/);
      assert.match(gpu.lost?.message ?? '', /no end after/);
      // From here on the driver, which would wait, is asked for nothing.
      let calls = 0;
      fake.onCall = () => (calls++, 0);
      pinned.free();
      await assert.rejects(gpu.stream.settled(), /unusable since/);
      gpu.close();
      assert.equal(calls, 0);
    });
  }
});
