import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { describe, test } from 'node:test';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import type { DeviceModel, LoadOptions } from '../src/device/device.ts';
import { roseError } from './checkpoint/files.ts';
import { exactSteps, runParts } from './exact-steps.ts';
import { encode, openOnCpu } from './on-cpu.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/**
 * The CUDA device where there is no GPU: every launch of small models runs in the kernel language's simulator, which finds
 * races, reads beyond a buffer and the like. `cuda-gpu.test.ts` does the same on a real one.
 */
function directory(name: string): string {
  return fileURLToPath(new URL(`../../../test/checkpoints/${name}`, import.meta.url));
}

const LOAD: LoadOptions = {
  quantize: undefined,
  cacheDtype: undefined,
  memoryShare: 0.9,
  maxSequences: 6,
  maxRows: 64,
  readLogits: true,
};

async function onSimulated(
  name: string,
  options: Partial<LoadOptions>,
  body: (model: DeviceModel, gpu: SimulatedGpu, checkpoint: Checkpoint) => Promise<void>,
): Promise<void> {
  const gpu = new SimulatedGpu();
  const checkpoint = await openCheckpoint(directory(name));
  try {
    const model = await CudaModel.load(gpu, checkpoint, { ...LOAD, ...options });
    await body(model, gpu, checkpoint);
    model.close();
    assert.equal(gpu.used, 0, 'memory that was not given back');
  } finally {
    await checkpoint.close();
  }
}

const PROMPT = Int32Array.of(5, 90, 40, 33, 17, 100, 81, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

/** Vectors of two sequences, or logits behind a prompt and behind a token of its answer. */
async function outputsOf(model: DeviceModel, { spec }: Checkpoint): Promise<Float32Array[]> {
  if (spec.head.kind !== 'logits') {
    const types = spec.embedding.types > 1 ? { types: [0, 1, 1] } : {};
    return encode(model, [{ tokens: [...PROMPT] }, { tokens: [7, 8, 9], ...types }]);
  }
  const pages = Int32Array.of(3, 4);
  const prompt = { tokens: PROMPT, pages, from: 0, to: 18, answer: false };
  const [first] = await runParts(model, [prompt]);
  const [second] = await runParts(model, [{ ...prompt, from: 18, to: 19, answer: true }]);
  return [first, second];
}

/** Largest difference, by the largest magnitude. */
function apart(got: Float32Array, right: Float32Array): number {
  assert.equal(got.length, right.length);
  const largest = right.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return got.reduce((most, value, i) => Math.max(most, Math.abs(value - right[i])), 0) / largest;
}

describe('models in the simulator', () => {
  // float32 on both sides: sums in another order, of a few hundred terms in two or three layers.
  for (const name of ['bert-cls', 'bert-score-3', 'llama-gqa', 'qwen2-window', 'qwen3']) {
    test(`${name} in float32 agrees with the CPU's`, async () => {
      await onSimulated(name, { dtype: 'f32' }, async (model, _gpu, checkpoint) => {
        const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
        const right = await outputsOf(cpu.model, checkpoint);
        await cpu.close();
        const got = await outputsOf(model, checkpoint);
        got.forEach((values, i) => assert.ok(apart(values, right[i]) < 1e-5, `${i}: ${apart(values, right[i])}`));
      });
    });
  }

  // Activations are rounded to 8 bits about ten times a layer.
  for (const name of ['bert-mean', 'llama-mqa-f16', 'qwen3']) {
    test(`${name} in 16 bits is near float32`, async () => {
      await onSimulated(name, { dtype: 'auto' }, async (model, gpu, checkpoint) => {
        const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
        const right = await outputsOf(cpu.model, checkpoint);
        await cpu.close();
        const got = await outputsOf(model, checkpoint);
        got.forEach((values, i) => assert.ok(apart(values, right[i]) < 0.05, `${i}: ${apart(values, right[i])}`));
        assert.ok(gpu.launches.has('linear_small'), 'products run on tensor cores');
      });
    });
  }

  for (const graphs of [false, true]) {
    test(`a decoder's bits are the same in every way, ${graphs ? 'from graphs' : 'launch by launch'}`, async () => {
      await onSimulated('qwen3', { graphs }, async (model) => {
        const ways = graphs ? (['padded'] as const) : (['chunks of 17', 'beside others', 'answers anew'] as const);
        await exactSteps(model, { vocabulary: 200, prompt: 20, answer: 3, ways });
      });
    });
  }

  test('what no kernel has is refused by name, and nothing is left behind', async () => {
    const gpu = new SimulatedGpu();
    const checkpoint = await openCheckpoint(directory('llama-odd-sizes'));
    await assert.rejects(CudaModel.load(gpu, checkpoint, LOAD), roseError('unsupported', /heads of 20 elements/));
    await checkpoint.close();
    assert.equal(gpu.used, 0);
  });

  test('a model that does not fit says what it needs', async () => {
    const checkpoint = await openCheckpoint(directory('qwen3'));
    await assert.rejects(
      CudaModel.load(new SimulatedGpu({ bytes: 100_000 }), checkpoint, LOAD),
      roseError('unavailable', /does not fit GPU 0 \(simulated\): weights take/),
    );
    await checkpoint.close();
  });
});
