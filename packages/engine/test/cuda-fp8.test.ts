import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { chooseFormats } from '../src/device/cuda/options.ts';
import type { DeviceModel, LoadOptions } from '../src/device/device.ts';
import { roseError } from './checkpoint/files.ts';
import { apart, exactSteps, outputsOf } from './exact-steps.ts';
import { directory, LOAD, onSimulated } from './on-simulated.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/** Models of 8 bits in the simulator: keys and values. */

async function refused(name: string, options: Partial<LoadOptions>, arch: string, says: RegExp): Promise<void> {
  const checkpoint = await openCheckpoint(directory(name));
  assert.throws(() => chooseFormats(checkpoint, { ...LOAD, ...options }, arch), roseError('unsupported', says));
  await checkpoint.close();
}

describe('keys and values of e4m3', () => {
  test('are near those of 16 bits, in half of the bytes', async () => {
    const results: { logits: Float32Array[]; bytes: number }[] = [];
    for (const cacheDtype of [undefined, 'fp8'] as const) {
      await onSimulated('qwen3', { cacheDtype }, async (model, _gpu, checkpoint) => {
        const [{ bytes, pages }] = model.memory.pages;
        results.push({ logits: await outputsOf(model, checkpoint), bytes: bytes / pages });
      });
    }
    const [wide, narrow] = results;
    assert.equal(narrow.bytes, wide.bytes / 2);
    // Each number loses up to 2^-4; scores of weights as wide as these move by tenths, and so do powers of them.
    const difference = apart(narrow.logits, wide.logits);
    assert.ok(difference > 1e-3 && difference < 0.25, `${difference}`);
  });

  for (const [arch, ...ways] of [
    ['sm_90a', 'chunks of 17', 'beside others'],
    ['sm_89', 'padded', 'answers anew'],
  ] as const) {
    test(`a decoder's bits are the same in every way on ${arch}`, async () => {
      const body = async (model: DeviceModel): Promise<void> => {
        await exactSteps(model, { vocabulary: 200, prompt: 18, answer: 2, ways });
      };
      await onSimulated('qwen3', { cacheDtype: 'fp8' }, body, new SimulatedGpu({ arch }));
    });
  }

  test('are refused by name where kernels do not read them', async () => {
    const fp8 = { cacheDtype: 'fp8' } as const;
    await refused('qwen3', fp8, 'sm_80', /sm_80 does not convert e4m3/);
    await refused('qwen3', { ...fp8, dtype: 'f32' }, 'sm_90a', /go with bf16 and f16: leave --dtype f32 out/);
    await refused('llama-gqa', fp8, 'sm_90a', /heads of 32, 64.* this model's have 16/);
  });

  test('are nothing to an encoder, which keeps none', async () => {
    const checkpoint = await openCheckpoint(directory('bert-mean'));
    assert.equal(chooseFormats(checkpoint, { ...LOAD, cacheDtype: 'fp8' }, 'sm_90a').cache, 'bf16');
    await checkpoint.close();
  });
});
