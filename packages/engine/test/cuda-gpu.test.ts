import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import { bundled, defaultLoad } from './on-cpu.ts';
import { exactSteps, type Way } from './exact-steps.ts';

/** Whole models on a real GPU; skipped, with the reason, where there is none. */
function missing(): string | false {
  try {
    listDevices(loadDriver());
    return false;
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

const WAYS: readonly Way[] = ['chunks of 1', 'chunks of 17', 'beside others', 'padded', 'answers anew'];

describe('tiny-chat on a GPU', { skip: missing() }, () => {
  let gpu: DriverGpu;
  before(() => (gpu = DriverGpu.open(0)));
  after(() => gpu.close());

  for (const graphs of [false, true]) {
    test(`every way of computing gives the same bits, ${graphs ? 'from graphs' : 'launch by launch'}`, async () => {
      const checkpoint = await openCheckpoint(bundled('tiny-chat'));
      const options = { ...defaultLoad, maxSequences: 80, maxRows: 512, graphs, readLogits: true, memoryShare: 0.1 };
      const model = await CudaModel.load(gpu, checkpoint, options);
      await exactSteps(model, { vocabulary: checkpoint.spec.vocabSize, prompt: 150, answer: 40, ways: WAYS });
      model.close();
      await checkpoint.close();
      assert.equal(gpu.context.lost, undefined);
    });
  }
});
