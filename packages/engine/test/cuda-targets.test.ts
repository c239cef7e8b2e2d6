import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import type { DeviceModel, StepResult } from '../src/device/device.ts';
import { Batch } from '../src/engine/batch.ts';
import { openOnCpu } from './on-cpu.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const checkpoint = fileURLToPath(new URL('../../../test/checkpoints/qwen3', import.meta.url));
/** More than there are rows of logits at a time. */
const TOKENS = 70;

/** A prompt whose tokens are all judged, and the token behind it. */
async function judged(model: DeviceModel, vocabulary: number): Promise<StepResult> {
  const batch = new Batch(model.capacity);
  batch.clear();
  const tokens = Int32Array.from({ length: TOKENS }, (_, i) => (i * 37 + 5) % vocabulary);
  const pages = Int32Array.from({ length: Math.ceil(TOKENS / 16) }, (_, i) => i);
  const tables = batch.pageTables.map(() => pages);
  batch.addSequence(tokens, undefined, 0, TOKENS, tables, pages.length);
  for (let row = 0; row < TOKENS - 1; row++) batch.addTarget(row, tokens[row + 1], row % 3);
  batch.outputs = 1;
  batch.outputRows[0] = TOKENS - 1;
  batch.temperature[0] = 0;
  batch.logprobs[0] = 3;
  batch.maskOf[0] = -1;
  batch.historySlot[0] = -1;
  return model.step(batch);
}

test('targets of a prompt, more than there are rows of logits, and the token behind it', async () => {
  const opened = await openCheckpoint(checkpoint);
  const { vocabSize } = opened.spec;
  const options = { quantize: undefined, cacheDtype: undefined, maxSequences: 2, maxRows: 80 } as const;
  const model = await CudaModel.load(new SimulatedGpu({ bytes: 2 ** 31 }), opened, options);
  const { model: cpu, close } = await openOnCpu(checkpoint, { maxRows: 80 });
  const [there, here] = [await judged(model, vocabSize), await judged(cpu, vocabSize)];
  assert.equal(there.tokens[0], here.tokens[0]);
  assert.equal(there.topTokens[0], there.tokens[0]);
  assert.equal(there.topTokens[3], -1);
  for (let t = 0; t < TOKENS - 1; t++) {
    // The weights are the same, the activations bfloat16: logits of a deviation of 1 differ in the second place.
    const difference = Math.abs(there.targetLogprobs[t] - here.targetLogprobs[t]);
    assert.ok(difference < 0.15, `target ${t}: ${there.targetLogprobs[t]}, not ${here.targetLogprobs[t]}`);
    assert.ok(there.targetRanks[t] >= 1 && there.targetRanks[t] <= vocabSize);
    const asked = (t % 3) + t * 20;
    assert.ok(there.targetTopTokens[asked] === -1 && (t % 3 === 0 || there.targetTopTokens[asked - 1] >= 0));
  }
  model.close();
  await close();
  await opened.close();
});
