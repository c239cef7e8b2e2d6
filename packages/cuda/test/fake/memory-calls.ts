import type { FakeCalls, FakeDriver } from './driver.ts';
import type { FakeStream } from './stream-calls.ts';
import { enqueue } from './stream-calls.ts';

interface FakePool {
  used: number;
  high: number;
  threshold: number;
}

/** Memory: device, pinned, pools, copies, fills, and handles for other processes. */
export function memoryCalls(fake: FakeDriver): FakeCalls {
  const { memory } = fake;
  const blocks = new Map<number, { handle: number; pool?: FakePool; bytes: number }>();

  const allocate = (bytes: number, kind: string, pool?: FakePool): number => {
    const address = memory.allocate(bytes, kind);
    blocks.set(address, { handle: fake.create(kind, address), bytes, ...(pool ? { pool } : {}) });
    return address;
  };
  const free = (address: number, kind: string): number => {
    const wrong = memory.free(address, kind);
    if (wrong !== undefined) {
      fake.faults.push(wrong);
      return 1;
    }
    const block = blocks.get(address);
    if (block) fake.destroy(kind, block.handle);
    if (block?.pool) block.pool.used -= block.bytes;
    return 0;
  };
  const fill = (address: number, value: number, count: number, size: 1 | 2 | 4, stream: number): number =>
    enqueue(fake, stream, () => {
      const { buffer, byteOffset, byteLength } = memory.at(address, count * size);
      const view = new DataView(buffer, byteOffset, byteLength);
      for (let at = 0; at < count * size; at += size) {
        if (size === 1) view.setUint8(at, value);
        else if (size === 2) view.setUint16(at, value, true);
        else view.setUint32(at, value, true);
      }
    });

  return {
    cuMemGetInfo_v2: (free, total) => {
      fake.putWord(free, 79 * 2 ** 30);
      fake.putWord(total, 80 * 2 ** 30);
      return undefined;
    },
    cuMemGetAddressRange_v2: (base, size, address) => {
      fake.putWord(base, address);
      fake.putWord(size, memory.rest(address).length);
      return undefined;
    },
    cuMemAlloc_v2: (out, bytes) => {
      if (fake.context === 0) return 201;
      if (bytes > 80 * 2 ** 30) return 2;
      fake.putWord(out, allocate(bytes, 'device'));
      return undefined;
    },
    cuMemFree_v2: (address) => free(address, 'device'),
    cuMemHostAlloc: (out, bytes) => fake.putWord(out, allocate(bytes, 'pinned')),
    cuMemFreeHost: (address) => free(address, 'pinned'),
    cuMemHostGetDevicePointer_v2: (out, address) => fake.putWord(out, address),

    cuMemPoolCreate: (out) => fake.putWord(out, fake.create<FakePool>('pool', { used: 0, high: 0, threshold: 0 })),
    cuMemPoolDestroy: (pool) => void fake.destroy('pool', pool),
    cuMemPoolSetAttribute: (pool, _attribute, value) => {
      fake.get<FakePool>('pool', pool).threshold = memory.hostView(value, 8).getUint32(0, true);
      return undefined;
    },
    cuMemPoolGetAttribute: (handle, attribute, out) => {
      const pool = fake.get<FakePool>('pool', handle);
      fake.putWord(out, attribute === 7 || attribute === 5 ? pool.used : pool.high);
      return undefined;
    },
    cuMemPoolTrimTo: (pool) => void fake.get('pool', pool),
    cuMemPoolSetAccess: (pool) => void fake.get('pool', pool),
    cuMemAllocFromPoolAsync: (out, bytes, handle, stream) => {
      fake.get<FakeStream>('stream', stream);
      const pool = fake.get<FakePool>('pool', handle);
      pool.used += bytes;
      pool.high = Math.max(pool.high, pool.used);
      fake.putWord(out, allocate(bytes, 'pooled', pool));
      return undefined;
    },
    cuMemFreeAsync: (address, stream) => {
      if (stream !== 0) fake.get<FakeStream>('stream', stream);
      return free(address, 'pooled');
    },

    cuMemcpyHtoDAsync_v2: (to, from, bytes, stream) =>
      enqueue(fake, stream, () => memory.at(to, bytes).set(memory.host(from, bytes))),
    cuMemcpyDtoHAsync_v2: (to, from, bytes, stream) =>
      enqueue(fake, stream, () => memory.host(to, bytes).set(memory.at(from, bytes))),
    cuMemcpyDtoDAsync_v2: (to, from, bytes, stream) =>
      enqueue(fake, stream, () => memory.at(to, bytes).set(memory.at(from, bytes))),
    cuMemcpyPeerAsync: (to, _toContext, from, _fromContext, bytes, stream) =>
      enqueue(fake, stream, () => memory.at(to, bytes).set(memory.at(from, bytes))),
    cuMemsetD8Async: (address, value, count, stream) => fill(address, value, count, 1, stream),
    cuMemsetD16Async: (address, value, count, stream) => fill(address, value, count, 2, stream),
    cuMemsetD32Async: (address, value, count, stream) => fill(address, value, count, 4, stream),

    cuIpcGetMemHandle: (out, address) => {
      memory.at(address, 1);
      const handle = memory.host(out, 64).fill(0);
      new DataView(handle.buffer, handle.byteOffset).setFloat64(0, address, true);
      return undefined;
    },
    cuIpcOpenMemHandle_v2: (out, handle) => {
      const address = new DataView(handle.buffer, handle.byteOffset).getFloat64(0, true);
      if (!memory.has(address)) return 1;
      const alias = memory.alias(address, 'imported');
      blocks.set(alias, { handle: fake.create('imported', alias), bytes: 0 });
      fake.putWord(out, alias);
      return undefined;
    },
    cuIpcCloseMemHandle: (address) => free(address, 'imported'),
  };
}
