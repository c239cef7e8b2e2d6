import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaUsageError, DeviceMemory, Event, MemoryPool, PinnedMemory, Stream } from '../src/index.ts';
import { fakeContext } from './fake/setup.ts';

test('memory is written and read, in parts, and never outside', () => {
  using setup = fakeContext();
  using memory = new DeviceMemory(setup.context, 64);
  memory.write(new Float32Array([1, 2, 3]), 16);
  const back = new Float32Array(2);
  memory.read(back, 20);
  assert.deepEqual([...back], [2, 3]);
  assert.equal(memory.slice(16, 8).address, memory.address + 16);
  for (const wrong of [
    () => memory.write(new Uint8Array(65)),
    () => memory.read(new Uint8Array(8), 60),
    () => memory.slice(-1, 2),
    () => memory.slice(0.5, 1),
    () => new DeviceMemory(setup.context, 0),
    () => new DeviceMemory(setup.context, NaN),
  ]) {
    assert.throws(wrong, CudaUsageError);
  }
});

test('a slice dies with its memory', () => {
  using setup = fakeContext();
  const memory = new DeviceMemory(setup.context, 64);
  const slice = memory.slice(8);
  assert.equal(slice.bytes, 56);
  memory[Symbol.dispose]();
  assert.throws(() => slice.address, /disposed already/);
});

test('streams copy between pinned memory and the device, and fill', () => {
  using setup = fakeContext();
  const { context } = setup;
  using stream = new Stream(context, { priority: -1 });
  using a = new DeviceMemory(context, 16);
  using b = new DeviceMemory(context, 16);
  using host = new PinnedMemory(context, 32);
  new Uint32Array(host.buffer).set([1, 2, 3, 4]);
  stream.copyToDevice(a, { memory: host, offset: 0, bytes: 16 });
  stream.copy(b, a);
  stream.fill(b.slice(0, 4), 0xdeadbeef, 32);
  stream.fill(b.slice(4, 2), -1, 16);
  stream.copyToHost({ memory: host, offset: 16, bytes: 16 }, b);
  stream.synchronize();
  assert.ok(stream.query());
  assert.deepEqual([...new Uint32Array(host.buffer, 16)], [0xdeadbeef, 0x0000ffff, 3, 4]);
  assert.throws(() => stream.fill(a.slice(0, 3), 1, 16), /cannot be filled with values of 16 bits/);
  assert.throws(() => stream.copyToDevice(a, host), CudaUsageError);
  assert.throws(() => stream.copy(a.slice(8), b), CudaUsageError);
});

test('views of pinned memory are empty once it is freed', () => {
  using setup = fakeContext();
  const host = new PinnedMemory(setup.context, 32);
  const view = new Uint8Array(host.buffer);
  assert.equal(view.length, 32);
  host[Symbol.dispose]();
  assert.equal(view.length, 0);
  assert.throws(() => host.address, /pinned memory was disposed/);
});

test('a pool hands memory out and takes it back in the order of streams', () => {
  using setup = fakeContext();
  const { context } = setup;
  using pool = new MemoryPool(context, { releaseThreshold: 2 ** 20 });
  using stream = new Stream(context);
  using other = new Stream(context);
  const first = pool.allocate(100, stream);
  {
    using second = pool.allocate(200, stream);
    stream.fill(second, 1);
    assert.equal(pool.usage().used, 300);
  }
  assert.equal(pool.usage().used, 100);
  first.freeIn(other);
  assert.deepEqual(pool.usage(), { reserved: 0, used: 0, reservedHigh: 300, usedHigh: 300 });
  pool.trim();
  const orphan = new Stream(context);
  const late = pool.allocate(8, orphan);
  orphan[Symbol.dispose]();
  late[Symbol.dispose]();
});

test('events mark, wait and measure', () => {
  using setup = fakeContext();
  const { context } = setup;
  using stream = new Stream(context);
  using other = new Stream(context);
  using start = new Event(context, { timing: true });
  using end = new Event(context, { timing: true, blocking: true });
  using plain = new Event(context);
  stream.record(start);
  other.wait(start);
  stream.record(end);
  end.synchronize();
  assert.ok(end.query());
  assert.equal(end.since(start), 0.25);
  stream.record(plain);
  assert.throws(() => plain.since(start), /cuEventElapsedTime failed/);
  assert.deepEqual(context.streamPriorities(), { lowest: 0, highest: -5 });
});

test('work that is not done is an answer and no error', () => {
  using setup = fakeContext();
  using stream = new Stream(setup.context);
  using event = new Event(setup.context);
  setup.fake.inject('cuStreamQuery', 600);
  setup.fake.inject('cuEventQuery', 600);
  assert.equal(stream.query(), false);
  assert.equal(event.query(), false);
  assert.equal(stream.query(), true);
});

test('a failure on the way to a new object leaves nothing behind', () => {
  using setup = fakeContext();
  const { context, fake } = setup;
  const makers = {
    cuMemAlloc_v2: () => new DeviceMemory(context, 8),
    cuMemHostAlloc: () => new PinnedMemory(context, 8),
    cuMemHostGetDevicePointer_v2: () => new PinnedMemory(context, 8),
    cuMemPoolCreate: () => new MemoryPool(context),
    cuMemPoolSetAttribute: () => new MemoryPool(context),
    cuStreamCreateWithPriority: () => new Stream(context),
    cuEventCreate: () => new Event(context),
  } as const;
  for (const [name, make] of Object.entries(makers)) {
    fake.inject(name as keyof typeof makers, 2);
    assert.throws(make, new RegExp(`${name} failed`));
    assert.deepEqual(context.live(), {}, name);
  }
});
