import { DEVICE_ATTRIBUTE } from '../../src/device.ts';
import type { FakeCalls, FakeDriver } from './driver.ts';

const ATTRIBUTES: Readonly<Record<number, number>> = {
  [DEVICE_ATTRIBUTE.multiprocessors]: 4,
  [DEVICE_ATTRIBUTE.sharedBytesPerBlock]: 232_448,
  [DEVICE_ATTRIBUTE.tensorMaps]: 1,
  [DEVICE_ATTRIBUTE.warpSize]: 32,
  [DEVICE_ATTRIBUTE.memoryPools]: 1,
};

/** Devices and contexts. A context's handle is 0xc0ffee00 plus the device's number. */
export function deviceCalls(fake: FakeDriver): FakeCalls {
  const count = fake.options.devices ?? 1;
  const [major, minor] = fake.options.capability ?? [9, 0];
  const bad = (device: number): boolean => device < 0 || device >= count;
  return {
    cuInit: () => {
      fake.initialised = true;
      return fake.options.init ?? 0;
    },
    cuDriverGetVersion: (out) => fake.putI32(out, fake.options.version ?? 13_000),
    cuDeviceGetCount: (out) => fake.putI32(out, count),
    cuDeviceGet: (out, ordinal) => (bad(ordinal) ? 101 : fake.putI32(out, ordinal)),
    cuDeviceGetName: (out, length, device) => {
      fake.memory.host(out, length).set(Buffer.from(`Fake GPU ${device}\0`));
      return undefined;
    },
    cuDeviceGetPCIBusId: (out, length, device) => {
      fake.memory.host(out, length).set(Buffer.from(`0000:0${device}:00.0\0`));
      return undefined;
    },
    cuDeviceGetUuid_v2: (out, device) => {
      fake.memory.host(out, 16).fill(0x10 + device);
      return undefined;
    },
    cuDeviceTotalMem_v2: (out) => fake.putWord(out, 80 * 2 ** 30),
    cuDeviceGetAttribute: (out, attribute) => {
      if (attribute === DEVICE_ATTRIBUTE.computeMajor) fake.putI32(out, major);
      else if (attribute === DEVICE_ATTRIBUTE.computeMinor) fake.putI32(out, minor);
      else fake.putI32(out, ATTRIBUTES[attribute] ?? 0);
      return undefined;
    },
    cuDevicePrimaryCtxRetain: (out, device) => {
      if (bad(device)) return 101;
      fake.retained.set(device, (fake.retained.get(device) ?? 0) + 1);
      fake.putWord(out, 0xc0ffee00 + device);
      return undefined;
    },
    cuDevicePrimaryCtxRelease_v2: (device) => {
      const held = fake.retained.get(device) ?? 0;
      if (held === 0) return 201;
      fake.retained.set(device, held - 1);
      return undefined;
    },
    cuCtxSetCurrent: (context) => {
      if (context !== 0 && !((fake.retained.get(context - 0xc0ffee00) ?? 0) > 0)) return 201;
      fake.context = context;
      return undefined;
    },
    cuCtxSynchronize: () => (fake.context === 0 ? 201 : 0),
    cuCtxGetStreamPriorityRange: (least, greatest) => {
      fake.putI32(least, 0);
      fake.putI32(greatest, -5);
      return undefined;
    },
    cuDeviceCanAccessPeer: (out) => fake.putI32(out, 1),
    cuCtxEnablePeerAccess: (peer) => {
      const pair = `${fake.context}-${peer}`;
      if (fake.peers.has(pair)) return 704;
      fake.peers.add(pair);
      return undefined;
    },
    cuCtxDisablePeerAccess: (peer) => (fake.peers.delete(`${fake.context}-${peer}`) ? 0 : 705),
  };
}
