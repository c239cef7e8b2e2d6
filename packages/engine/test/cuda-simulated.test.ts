import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import type { KernelCase, KernelModule } from '@rose/kernels';
import type { GpuKernel, GpuMemory, KernelsLoaded, KernelWanted, PinnedBlock } from '../src/device/cuda/gpu.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import { roseError } from './checkpoint/files.ts';
import { apart, exactSteps, outputsOf } from './exact-steps.ts';
import { exactVectors } from './exact-vectors.ts';
import { openOnCpu } from './on-cpu.ts';
import { rangesHold } from './ranges-hold.ts';
import { directory, LOAD, onSimulated } from './on-simulated.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/*
 * The CUDA device where there is no GPU: every launch of small models runs in the kernel language's simulator, which finds
 * races, reads beyond a buffer and the like. `cuda-gpu.test.ts` does the same on a real one.
 */

/** Gives so many blocks of memory and no more. */
class ShortGpu extends SimulatedGpu {
  first = 0;
  left = 0;
  pinnedBlocks = 0;

  override alloc(bytes: number): GpuMemory {
    this.#count();
    return super.alloc(bytes);
  }

  override pinned(bytes: number): PinnedBlock {
    this.#count();
    const { buffer, range } = super.pinned(bytes);
    this.pinnedBlocks++;
    let live = true;
    const free = (): void => {
      if (live) this.pinnedBlocks--;
      live = false;
    };
    return { buffer, range, free };
  }

  #count(): void {
    if (this.left-- === 0) throw new Error('no more memory');
  }
}

/** Refuses what was not announced. */
class AnnouncedGpu extends SimulatedGpu {
  readonly #announced = new Set<string>();

  override loadAll(wanted: readonly KernelWanted[]): Promise<KernelsLoaded> {
    for (const { module, wanted: one } of wanted) this.#announced.add(`${module.name} ${JSON.stringify(one)}`);
    return super.loadAll(wanted);
  }

  override load(module: KernelModule, wanted: KernelCase): GpuKernel {
    const key = `${module.name} ${JSON.stringify(wanted)}`;
    // What converts weights is wanted while they are read.
    assert.ok(this.#announced.has(key) || module.name === 'cast', `${key} was not announced`);
    return super.load(module, wanted);
  }
}

describe('models in the simulator', () => {
  for (const name of ['bert-mean', 'qwen3', 'qwen2-window', 'llama-mha-f32']) {
    test(`all kernels of ${name} are known before its weights are read`, async () => {
      const gpu = new AnnouncedGpu();
      const checkpoint = await openCheckpoint(directory(name));
      const model = await CudaModel.load(gpu, checkpoint, LOAD);
      model.close();
      await checkpoint.close();
      assert.deepEqual([gpu.used, gpu.kernels], [0, 0]);
    });
  }

  // float32 on both sides: sums in another order, of a few hundred terms in two or three layers.
  for (const name of ['bert-score-3', 'qwen3']) {
    test(`${name} in float32 agrees with the CPU's`, async () => {
      await onSimulated(name, { dtype: 'f32' }, async (model, _gpu, checkpoint) => {
        const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
        const right = await outputsOf(cpu.model, checkpoint);
        await cpu.close();
        const got = await outputsOf(model, checkpoint);
        assert.ok(apart(got, right) < 1e-5, `${apart(got, right)}`);
      });
    });
  }

  // Activations are rounded to 8 bits about ten times a layer.
  for (const name of ['bert-mean', 'qwen3']) {
    test(`${name} in 16 bits is near float32`, async () => {
      await onSimulated(name, { dtype: 'auto' }, async (model, gpu, checkpoint) => {
        const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
        const right = await outputsOf(cpu.model, checkpoint);
        await cpu.close();
        const got = await outputsOf(model, checkpoint);
        assert.ok(apart(got, right) < 0.05, `${apart(got, right)}`);
        assert.ok(gpu.launches.has('linear_small'), 'products run on tensor cores');
      });
    });
  }

  for (const graphs of [false, true]) {
    test(`a decoder's bits are the same in every way, ${graphs ? 'from graphs' : 'launch by launch'}`, async () => {
      await onSimulated('qwen3', { graphs }, async (model) => {
        const ways = graphs ? (['padded'] as const) : (['chunks of 17', 'beside others', 'answers anew'] as const);
        await exactSteps(model, { vocabulary: 200, prompt: 18, answer: 2, ways });
      });
    });
  }

  // Blocks that norm afterwards, whose product writes queries, keys and values each by itself.
  test("an encoder's bits are the same alone, beside others, from graphs and launch by launch", async (t) => {
    const results: (readonly Float32Array[])[] = [];
    for (const graphs of [false, true]) {
      await onSimulated('bert-mean', { graphs, maxSequences: 12 }, async (model, gpu, { spec }) => {
        const capture = t.mock.method(gpu.stream, 'capture');
        // Nine sequences of 13 rows: graphs have ten of 14.
        const lengths = [4, 1, 1, 1, 1, 1, 1, 1, 2];
        results.push(await exactVectors(model, spec.vocabSize, lengths, graphs ? 2 : 1));
        assert.equal(capture.mock.callCount() > 0, graphs);
      });
    }
    assert.deepEqual(results[1], results[0]);
  });

  test('without room for a graph steps are launched one by one, to the same bits', async (t) => {
    const warnings = t.mock.method(process, 'emitWarning', () => {});
    const logits: Float32Array[][] = [];
    for (const broken of [false, true]) {
      await onSimulated('qwen3', {}, async (model, gpu, checkpoint) => {
        if (broken) {
          t.mock.method(gpu.stream, 'capture', () => {
            throw new Error('out of memory');
          });
        }
        logits.push(await outputsOf(model, checkpoint));
      });
    }
    assert.deepEqual(logits[1], logits[0]);
    assert.match(String(warnings.mock.calls[0].arguments[0]), /launched one by one from now on: out of memory/);
  });

  test('what no kernel has is refused by name, and nothing is left behind', async () => {
    const gpu = new SimulatedGpu();
    const checkpoint = await openCheckpoint(directory('llama-odd-sizes'));
    const load = CudaModel.load(gpu, checkpoint, LOAD);
    await assert.rejects(load, roseError('unsupported', /columns is 152; it must be a multiple of 16/));
    await checkpoint.close();
    assert.equal(gpu.used, 0);
  });

  test('however far a load came, nothing of it stays', async () => {
    const gpu = new ShortGpu();
    const checkpoint = await openCheckpoint(directory('qwen3'));
    for (gpu.left = 0; ; gpu.left = ++gpu.first) {
      const load = CudaModel.load(gpu, checkpoint, LOAD);
      try {
        (await load).close();
        break;
      } catch (error) {
        assert.match(String(error), /no more memory/);
        assert.deepEqual([gpu.used, gpu.pinnedBlocks], [0, 0], `after ${gpu.first} of its blocks`);
      }
    }
    assert.ok(gpu.first > 10);
    assert.deepEqual([gpu.used, gpu.pinnedBlocks], [0, 0]);
    await checkpoint.close();
  });

  test('a model that does not fit says what it needs', async () => {
    const checkpoint = await openCheckpoint(directory('qwen3'));
    await assert.rejects(
      CudaModel.load(new SimulatedGpu({ bytes: 100_000 }), checkpoint, LOAD),
      roseError('unavailable', /does not fit GPU 0 \(simulated\): weights take/),
    );
    await checkpoint.close();
  });

  test('heads that a GPU has no shared memory for are refused by name; where less of it will do, less is taken', async () => {
    const checkpoint = await openCheckpoint(directory('qwen3'));
    const small = new SimulatedGpu({ arch: 'sm_86', sharedBytes: 99 * 1024 });
    (await CudaModel.load(small, checkpoint, LOAD)).close();
    const tiny = new SimulatedGpu({ arch: 'sm_86', sharedBytes: 8 * 1024 });
    await assert.rejects(
      CudaModel.load(tiny, checkpoint, LOAD),
      roseError(
        'unsupported',
        /heads of \d+ elements are too large for 8 KiB of shared memory of GPU 0 \(simulated\); --device cpu/,
      ),
    );
    assert.equal(tiny.used, 0);
    await checkpoint.close();
  });

  test('a number of a step that is out of its range fails that step, and the GPU is as it was', async () => {
    await onSimulated('qwen3', {}, (model, _gpu, checkpoint) => rangesHold(model, checkpoint.spec.vocabSize));
  });
});
