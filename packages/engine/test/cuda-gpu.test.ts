import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { CudaUnavailableError, listDevices, loadDriver } from '@rose/cuda';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { DriverGpu } from '../src/device/cuda/driver-gpu.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import { exactVectors } from './exact-vectors.ts';
import { apart, exactSteps, outputsOf, PROMPT, type Way } from './exact-steps.ts';
import { checkChat, checkEncoders, PRINTED } from './golden-checks.ts';
import { bundled, defaultLoad, openOnCpu, type OpenedModel } from './on-cpu.ts';
import { referenceLogits } from './reference-decoder.ts';
import { rangesHold } from './ranges-hold.ts';

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

/** The checkpoints of random weights, each with other options of its architecture. */
const CHECKPOINTS = fileURLToPath(new URL('../../../test/checkpoints/', import.meta.url));
const names = readdirSync(CHECKPOINTS, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
);

describe('every architecture and option on a GPU', { skip: missing() }, () => {
  let gpu: DriverGpu;
  before(() => (gpu = DriverGpu.open(0)));
  after(() => gpu.close());

  for (const name of names) {
    // A gated layer of 76 columns is not interleaved by eights.
    if (name === 'llama-odd-sizes') continue;
    for (const dtype of ['f32', 'auto'] as const) {
      test(`${name} in ${dtype} agrees with the CPU's float32`, async () => {
        const checkpoint = await openCheckpoint(`${CHECKPOINTS}${name}`);
        const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
        const right = await outputsOf(cpu.model, checkpoint);
        await cpu.close();
        const options = {
          ...defaultLoad,
          cacheDtype: undefined,
          maxRows: 64,
          readLogits: true,
          memoryShare: 0.05,
          dtype,
        };
        const model = await CudaModel.load(gpu, checkpoint, options);
        const got = await outputsOf(model, checkpoint);
        model.close();
        await checkpoint.close();
        // Activations of e4m3 lose up to 2^-4 each.
        const narrow = checkpoint.tensors.some(({ fp8 }) => fp8 !== undefined);
        const bound = dtype === 'f32' ? 1e-5 : narrow ? 0.15 : 0.06;
        assert.ok(apart(got, right) < bound, `${apart(got, right)}`);
      });
    }
  }
});

/** Of 8 bits: what is stored so, what becomes so, and keys and values. */
const NARROW = [
  ['llama-fp8-static', undefined, undefined],
  ['llama-fp8-channel', undefined, 'fp8'],
  ['qwen3-fp8-block', undefined, undefined],
  ['qwen3-fp8-block', undefined, 'fp8'],
  ['qwen3', 'fp8', undefined],
  ['qwen3', 'fp8', 'fp8'],
] as const;

describe('models of 8 bits on a GPU', { skip: missing() }, () => {
  let gpu: DriverGpu;
  before(() => (gpu = DriverGpu.open(0)));
  after(() => gpu.close());

  for (const [name, quantize, cacheDtype] of NARROW) {
    test(`${name}, weights ${quantize ?? 'as stored'}, cache ${cacheDtype ?? 'of 16 bits'}: the arithmetic in float64, the same bits in every way`, async () => {
      const checkpoint = await openCheckpoint(`${CHECKPOINTS}${name}`);
      for (const graphs of [false, true]) {
        const options = { ...defaultLoad, quantize, cacheDtype, graphs, readLogits: true, memoryShare: 0.05 };
        const model = await CudaModel.load(gpu, checkpoint, { ...options, maxRows: 512 });
        const formats = { quantize: quantize === 'fp8', cache: cacheDtype ?? 'bf16' } as const;
        const right = await referenceLogits(checkpoint, PROMPT.slice(0, 19), [17, 18], formats);
        const difference = apart(await outputsOf(model, checkpoint), right);
        assert.ok(difference < 0.1, `${difference}`);
        await exactSteps(model, { vocabulary: checkpoint.spec.vocabSize, prompt: 70, answer: 20, ways: WAYS });
        model.close();
      }
      await checkpoint.close();
      assert.equal(gpu.context.lost, undefined);
    });
  }
});

async function openOnGpu(name: string, dtype: 'f32' | 'bf16'): Promise<Pick<OpenedModel, 'model' | 'close'>> {
  const gpu = DriverGpu.open(0);
  const checkpoint = await openCheckpoint(bundled(name));
  const options = { ...defaultLoad, cacheDtype: undefined, readLogits: true, memoryShare: 0.1, dtype };
  const model = await CudaModel.load(gpu, checkpoint, options);
  const close = async (): Promise<void> => {
    model.close();
    await checkpoint.close();
    gpu.close();
  };
  return { model, close };
}

checkChat('in float32 on a GPU', () => openOnGpu('tiny-chat', 'f32'), 1e-4 + PRINTED, missing());
checkEncoders('in float32 on a GPU', (name) => openOnGpu(name, 'f32'), { scores: 1e-3, cosine: 0.9999 }, missing());
// Activations are rounded to 8 bits ten times a layer.
checkEncoders('in bfloat16 on a GPU', (name) => openOnGpu(name, 'bf16'), { scores: 0.1, cosine: 0.999 }, missing());

describe('tiny-chat on a GPU', { skip: missing() }, () => {
  let gpu: DriverGpu;
  before(() => (gpu = DriverGpu.open(0)));
  after(() => gpu.close());

  test('a number of a step that is out of its range fails that step, and the GPU is as it was', async () => {
    const checkpoint = await openCheckpoint(bundled('tiny-chat'));
    const options = { ...defaultLoad, cacheDtype: undefined, readLogits: true, memoryShare: 0.1 };
    const model = await CudaModel.load(gpu, checkpoint, options);
    await rangesHold(model, checkpoint.spec.vocabSize);
    model.close();
    await checkpoint.close();
    assert.equal(gpu.lost, undefined);
    assert.equal(gpu.context.live().module, undefined, 'modules go with their model');
  });

  test('kernels that nobody compiled before are compiled by threads, and found the next time', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'rose-cold-'));
    const before = process.env.ROSE_CACHE_DIR;
    process.env.ROSE_CACHE_DIR = directory;
    const cold = DriverGpu.open(0);
    try {
      const checkpoint = await openCheckpoint(bundled('tiny-chat'));
      const phases: string[] = [];
      for (const _ of [1, 2]) {
        const onPhase = (name: string): void => void phases.push(name);
        const model = await CudaModel.load(cold, checkpoint, {
          ...defaultLoad,
          cacheDtype: undefined,
          memoryShare: 0.1,
          readLogits: true,
          onPhase,
        });
        await exactSteps(model, {
          vocabulary: checkpoint.spec.vocabSize,
          prompt: 40,
          answer: 8,
          ways: ['chunks of 17'],
        });
        model.close();
      }
      await checkpoint.close();
      const kernels = phases.filter((name) => name.startsWith('kernels'));
      assert.match(kernels[0], /^kernels compiled \(\d+, \d+ threads\)$/);
      assert.equal(kernels[1], 'kernels found');
    } finally {
      cold.close();
      if (before === undefined) delete process.env.ROSE_CACHE_DIR;
      else process.env.ROSE_CACHE_DIR = before;
      await rm(directory, { recursive: true });
    }
  });

  for (const graphs of [false, true]) {
    test(`every way of computing gives the same bits, ${graphs ? 'from graphs' : 'launch by launch'}`, async () => {
      const checkpoint = await openCheckpoint(bundled('tiny-chat'));
      const options = {
        ...defaultLoad,
        cacheDtype: undefined,
        maxSequences: 80,
        maxRows: 512,
        graphs,
        readLogits: true,
        memoryShare: 0.1,
      };
      const model = await CudaModel.load(gpu, checkpoint, options);
      await exactSteps(model, { vocabulary: checkpoint.spec.vocabSize, prompt: 150, answer: 40, ways: WAYS });
      model.close();
      await checkpoint.close();
      assert.equal(gpu.context.lost, undefined);
    });
  }
});

describe('encoders on a GPU', { skip: missing() }, () => {
  let gpu: DriverGpu;
  before(() => (gpu = DriverGpu.open(0)));
  after(() => gpu.close());

  for (const name of ['tiny-embed', 'tiny-rerank']) {
    test(`${name}: the same bits alone, beside others, from graphs and launch by launch`, async () => {
      const results: (readonly Float32Array[])[] = [];
      for (const graphs of [false, true]) {
        const checkpoint = await openCheckpoint(bundled(name));
        const options = { ...defaultLoad, cacheDtype: undefined, maxSequences: 20, maxRows: 4096, graphs };
        const model = await CudaModel.load(gpu, checkpoint, { ...options, memoryShare: 0.1 });
        const lengths = [1, 2, 15, 16, 17, 31, 63, 64, 65, 100, 127, 128];
        results.push(await exactVectors(model, checkpoint.spec.vocabSize, lengths, 3));
        model.close();
        await checkpoint.close();
      }
      assert.deepEqual(results[1], results[0]);
      assert.equal(gpu.context.lost, undefined);
    });
  }
});
