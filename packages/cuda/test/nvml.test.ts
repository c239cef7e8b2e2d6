import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ffi } from '../src/ffi.ts';
import { GpuMonitor } from '../src/nvml.ts';

const NOT_SUPPORTED = 3;

/** A library with two GPUs, of which the second knows neither power nor energy. */
function fakeNvml(gpus = 2): { ffi: Ffi; state: { energy: bigint; shut: boolean } } {
  const state = { energy: 5000n, shut: false };
  const second = (handle: number): boolean => handle === 0x2000;
  const calls: Record<string, (...values: never[]) => number> = {
    nvmlInit_v2: () => 0,
    nvmlShutdown: () => {
      state.shut = true;
      return 0;
    },
    nvmlDeviceGetCount_v2: (count: Uint32Array) => {
      count[0] = gpus;
      return 0;
    },
    nvmlDeviceGetHandleByIndex_v2: (index: number, handle: BigUint64Array) => {
      handle[0] = BigInt(0x1000 * (index + 1));
      return 0;
    },
    nvmlDeviceGetUUID: (handle: number, text: Buffer, length: number) => {
      assert.equal(length, text.length);
      text.write(`GPU-${handle}\0`, 'latin1');
      return 0;
    },
    nvmlDeviceGetUtilizationRates: (_: number, rates: Uint32Array) => {
      rates.set([25, 99]);
      return 0;
    },
    nvmlDeviceGetMemoryInfo: (_: number, memory: BigUint64Array) => {
      memory.set([80n, 60n, 20n]);
      return 0;
    },
    nvmlDeviceGetPowerUsage: (handle: number, power: Uint32Array) => {
      power[0] = 70_500;
      return second(handle) ? NOT_SUPPORTED : 0;
    },
    nvmlDeviceGetTotalEnergyConsumption: (handle: number, energy: BigUint64Array) => {
      energy[0] = state.energy;
      return second(handle) ? NOT_SUPPORTED : 0;
    },
  };
  const ffi: Ffi = {
    // A driver too old for one of them.
    find: (name, words) => {
      assert.ok(name === 'nvmlDeviceGetPowerManagementLimit' || calls[name].length === words.length, name);
      return calls[name];
    },
    address: () => 0,
    view: () => new ArrayBuffer(0),
  };
  return { ffi, state };
}

test('GPUs say what they know', () => {
  const { ffi, state } = fakeNvml();
  const monitor = GpuMonitor.open(ffi)!;
  state.energy = 6500n;
  const common = { utilization: 0.25, totalBytes: 80, usedBytes: 20, powerLimit: undefined };
  assert.deepEqual(monitor.read(), [
    { ...common, uuid: 'GPU-4096', power: 70.5, energy: 1.5 },
    { ...common, uuid: 'GPU-8192', power: undefined, energy: undefined },
  ]);
  monitor.close();
  assert.equal(state.shut, true);
});

test('a machine without GPUs, or without the library, has no monitor', () => {
  assert.equal(GpuMonitor.open(fakeNvml(0).ffi), undefined);
  const empty: Ffi = { find: () => undefined, address: () => 0, view: () => new ArrayBuffer(0) };
  assert.equal(GpuMonitor.open(empty), undefined);
});
