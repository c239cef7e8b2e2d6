import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { CudaDevice } from '../src/device/cuda/device.ts';
import { planCudaMemory } from '../src/device/cuda/memory.ts';
import { chooseFormats } from '../src/device/cuda/options.ts';
import type { LoadOptions } from '../src/device/device.ts';
import { buildPlan } from '../src/plan/build.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

const GIB = 1024 ** 3;
const root = fileURLToPath(new URL('../../../test/checkpoints/', import.meta.url));
const BF16 = { type: 'bf16', cache: 'bf16', quantize: false } as const;
const options: LoadOptions = { quantize: undefined, cacheDtype: undefined, maxSequences: 8, maxRows: 64 };

async function withCheckpoint(name: string, use: (checkpoint: Checkpoint) => void): Promise<void> {
  const checkpoint = await openCheckpoint(join(root, name));
  try {
    use(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** A GPU of so much memory, of which others hold a part. */
class SharedGpu extends SimulatedGpu {
  readonly #free: number;
  readonly #total: number;

  constructor(total: number, free: number) {
    super();
    [this.#total, this.#free] = [total, free];
  }

  override memory(): { free: number; total: number } {
    return { free: this.#free, total: this.#total };
  }
}

test('the device says what it is and what is free', () => {
  const { description } = new CudaDevice(new SharedGpu(80 * GIB, 60.5 * GIB));
  assert.equal(description, 'GPU 0 (simulated), sm_90a, 60.5 of 80.0 GiB free');
});

test('the compute type is the checkpoint’s, or what is asked for, and what is not there is refused by name', async () => {
  const types = async (name: string, more: Partial<LoadOptions> = {}): Promise<[string, number]> => {
    let choice: [string, number] = ['', 0];
    await withCheckpoint(name, (checkpoint) => {
      const { type, notes } = chooseFormats(checkpoint, { ...options, ...more }, 'sm_90a');
      choice = [type, notes.length];
    });
    return choice;
  };
  assert.deepEqual(await types('qwen3'), ['bf16', 0]);
  assert.deepEqual(await types('llama-mqa-f16'), ['f16', 0]);
  assert.deepEqual(await types('llama-mha-f32'), ['bf16', 1]);
  assert.deepEqual(await types('llama-mha-f32', { dtype: 'f32' }), ['f32', 0]);
  assert.deepEqual(await types('llama-mha-f32', { dtype: 'f16', cacheDtype: 'f16' }), ['f16', 0]);
  for (const [more, says] of [
    [{ quantize: 'int8' }, /int8 weights are for the CPU/],
    [{ quantize: 'fp8', dtype: 'f32' }, /products of e4m3 go with bf16 and f16/],
    [{ cacheDtype: 'fp8', dtype: 'f32' }, /fp8 keys and values go with bf16 and f16/],
    [{ cacheDtype: 'f32' }, /keys and values on a GPU have the weights' type, bf16/],
  ] as const) {
    await assert.rejects(types('qwen3', more), (error: Error) => {
      assert.match(error.message, says);
      return true;
    });
  }
});

test('pages take what is free: a share of the GPU, but no more than others leave', async () => {
  await withCheckpoint('qwen3', ({ spec, ...files }) => {
    // So much context that there is never room for all of it.
    const checkpoint = { ...files, spec: { ...spec, contextLength: 2 ** 22 } };
    const plan = buildPlan(checkpoint.spec);
    const many = { ...options, maxSequences: 512, maxRows: 512 };
    const sequences = (gpu: SimulatedGpu, more: Partial<LoadOptions> = {}): number => {
      const { report } = planCudaMemory(gpu, checkpoint, plan, BF16, { ...many, ...more });
      return (report.weights + report.workspace + report.sequences) / GIB;
    };
    const close = (actual: number, wanted: number): void => assert.ok(Math.abs(actual - wanted) < 0.01, `${actual}`);
    const alone = new SharedGpu(80 * GIB, 79.5 * GIB);
    close(sequences(alone), 72);
    close(sequences(alone, { memoryShare: 0.5 }), 40);
    // Of 80 GiB others hold 60: what is left counts, less what the driver may need.
    const shared = new SharedGpu(80 * GIB, 40 * GIB);
    close(sequences(shared), 40 - 600 / 1024);
    close(sequences(shared, { memoryShare: 0.6 }), 40 - 600 / 1024);
    // Two decoders beside each other get as much room for pages; an encoder to come only what it is.
    const one = planCudaMemory(alone, checkpoint, plan, BF16, many).report.sequences;
    const half = planCudaMemory(alone, checkpoint, plan, BF16, {
      ...many,
      toCome: [{ parameters: GIB, decoder: true }],
    }).report.sequences;
    close(half / GIB, (one / GIB - 3) / 2);
    const most = planCudaMemory(alone, checkpoint, plan, BF16, {
      ...many,
      toCome: [{ parameters: GIB, decoder: false }],
    }).report.sequences;
    close(most / GIB, one / GIB - 3);
    const others = [
      { parameters: 20 * GIB, decoder: true },
      { parameters: 20 * GIB, decoder: true },
    ];
    assert.throws(
      () => sequences(alone, { toCome: others }),
      /72\.00 GiB can be used .*, of which 2 models still to come want about 82\.00 GiB\. Try .*, fewer models on this GPU, or/,
    );
    // With a share of its own it leaves them nothing.
    close(sequences(alone, { toCome: others, memoryShare: 0.5 }), 40);
    assert.throws(
      () => sequences(new SharedGpu(80 * GIB, 0.5 * GIB)),
      /does not fit GPU 0 \(simulated\): .* \(0.50 GiB are free/,
    );
  });
});
