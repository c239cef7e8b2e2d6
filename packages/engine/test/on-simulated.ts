import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import type { DeviceModel, LoadOptions } from '../src/device/device.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/** Of a reference checkpoint. */
export function directory(name: string): string {
  return fileURLToPath(new URL(`../../../test/checkpoints/${name}`, import.meta.url));
}

export const LOAD: LoadOptions = {
  quantize: undefined,
  cacheDtype: undefined,
  memoryShare: 0.9,
  maxSequences: 6,
  maxRows: 64,
  readLogits: true,
};

/** A reference checkpoint, or one in a directory of its own, in the simulator; nothing of it may stay. */
export async function onSimulated(
  name: string,
  options: Partial<LoadOptions>,
  body: (model: DeviceModel, gpu: SimulatedGpu, checkpoint: Checkpoint) => Promise<void>,
  gpu: SimulatedGpu = new SimulatedGpu(),
): Promise<void> {
  const checkpoint = await openCheckpoint(directory(name));
  try {
    const model = await CudaModel.load(gpu, checkpoint, { ...LOAD, ...options });
    const { weights, sequences, workspace } = model.memory;
    assert.equal(gpu.used, weights + sequences + workspace, 'the plan says what is taken');
    await body(model, gpu, checkpoint);
    model.close();
    assert.equal(gpu.used, 0, 'memory that was not given back');
    assert.equal(gpu.kernels, 0, 'kernels that were not unloaded');
  } finally {
    await checkpoint.close();
  }
}
