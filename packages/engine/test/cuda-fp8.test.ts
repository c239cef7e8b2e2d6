import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Checkpoint, CheckpointTensor } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { CudaModel } from '../src/device/cuda/model.ts';
import { chooseFormats } from '../src/device/cuda/options.ts';
import type { DeviceModel, LoadOptions } from '../src/device/device.ts';
import { roseError } from './checkpoint/files.ts';
import { apart, exactSteps, outputsOf, PROMPT } from './exact-steps.ts';
import { openOnCpu } from './on-cpu.ts';
import { directory, LOAD, onSimulated } from './on-simulated.ts';
import { referenceLogits, type ReferenceFormats } from './reference-decoder.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/** Models of 8 bits in the simulator: weights that are stored so or become so, and keys and values. */

async function refused(name: string, options: Partial<LoadOptions>, arch: string, says: RegExp): Promise<void> {
  const checkpoint = await openCheckpoint(directory(name));
  assert.throws(() => chooseFormats(checkpoint, { ...LOAD, ...options }, arch), roseError('unsupported', says));
  await checkpoint.close();
}

function reference(checkpoint: Checkpoint, formats: ReferenceFormats): Promise<Float32Array[]> {
  return referenceLogits(checkpoint, PROMPT.slice(0, 19), [17, 18], formats);
}

/*
 * What the reference leaves: inputs of products that float32 and bfloat16 put on the other side of a rounding to 8 bits move
 * by 2^-4 of themselves, which a few in a hundred do in each of the products. A scale that is wrong, or in the wrong place, moves
 * logits by several tenths.
 */
const BOUND = 0.1;

describe('weights of e4m3', () => {
  for (const [name, quantize, cacheDtype] of [
    ['llama-fp8-static', undefined, undefined],
    ['llama-fp8-channel', undefined, 'fp8'],
    ['qwen3-fp8-block', undefined, undefined],
    ['qwen3', 'fp8', undefined],
  ] as const) {
    const how = [quantize && ', quantised as they are read', cacheDtype && ', with keys and values of e4m3'].join('');
    test(`${name}${how}: logits are those of the arithmetic in float64`, async () => {
      await onSimulated(name, { quantize, cacheDtype }, async (model, gpu, checkpoint) => {
        const formats = { quantize: quantize === 'fp8', cache: cacheDtype ?? 'bf16' } as const;
        const difference = apart(await outputsOf(model, checkpoint), await reference(checkpoint, formats));
        assert.ok(difference < BOUND, `${difference}`);
        // Products of blocks, and one head; where activations have stored scales, norms do not make e4m3.
        const { blocks } = checkpoint.spec;
        const products = 2 * 4 * blocks.length - (name === 'llama-fp8-channel' ? 2 : 0);
        assert.equal(gpu.launches.get('linear_fp8_small'), products);
        const apartFromNorms = {
          'llama-fp8-static': 1,
          'llama-fp8-channel': 3 / 7,
          'qwen3-fp8-block': 1 / 2,
          qwen3: 1 / 2,
        };
        const made = products * apartFromNorms[name];
        const loading =
          quantize === undefined ? 0 : checkpoint.tensors.filter(isBlockMatrix).length - checkpoint.spec.blocks.length;
        assert.equal((gpu.launches.get('quantise') ?? 0) - loading, made);
      });
    });
  }

  test('an encoder, quantised as it is read, is near itself', async () => {
    await onSimulated('bert-mean', { quantize: 'fp8' }, async (model, gpu, checkpoint) => {
      const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
      const right = await outputsOf(cpu.model, checkpoint);
      await cpu.close();
      // Weights and activations lose up to 2^-4 each.
      const difference = apart(await outputsOf(model, checkpoint), right);
      assert.ok(difference < 0.25, `${difference}`);
      assert.ok(gpu.launches.has('linear_fp8_small'));
    });
  });

  test('in float32 are what the CPU widens them to', async () => {
    await onSimulated('llama-fp8-channel', { dtype: 'f32' }, async (model, _gpu, checkpoint) => {
      const cpu = await openOnCpu(checkpoint.directory, { dtype: 'f32', maxSequences: 4, maxRows: 64 });
      const right = await outputsOf(cpu.model, checkpoint);
      await cpu.close();
      const difference = apart(await outputsOf(model, checkpoint), right);
      assert.ok(difference < 1e-5, `${difference}`);
    });
  });

  for (const [name, arch, ...ways] of [
    ['qwen3-fp8-block', 'sm_90a', 'chunks of 17', 'beside others'],
    ['llama-fp8-static', 'sm_89', 'padded', 'answers anew'],
  ] as const) {
    test(`${name}: a decoder's bits are the same in every way on ${arch}`, async () => {
      const body = async (model: DeviceModel, gpu: SimulatedGpu): Promise<void> => {
        await exactSteps(model, { vocabulary: 200, prompt: 18, answer: 2, ways });
        const products = arch === 'sm_89' ? ['linear_fp8_mma'] : ['linear_fp8_small'];
        // With the others there are more rows than the kernel for few takes.
        if (ways[1] === 'beside others') products.push('linear_fp8');
        for (const product of products) assert.ok(gpu.launches.has(product), product);
      };
      // Keys and values of 8 bits too: simulated steps take their time.
      await onSimulated(name, { maxRows: 128, cacheDtype: 'fp8' }, body, new SimulatedGpu({ arch }));
    });
  }

  test('take a byte in the plan, and their scales', async () => {
    const bytes: number[] = [];
    for (const quantize of [undefined, 'fp8'] as const) {
      await onSimulated('qwen3', { quantize }, async (model, _gpu, { tensors }) => {
        const narrow = tensors.filter(isBlockMatrix);
        const saved = narrow.reduce((sum, { parameter: { shape } }) => sum + shape[0] * shape[1] - 4 * shape[0], 0);
        bytes.push(model.memory.weights + (quantize === undefined ? 0 : saved));
      });
    }
    // Each matrix's place, and that of its scales, is rounded up to 256 bytes.
    assert.ok(Math.abs(bytes[1] - bytes[0]) <= 8 * 2 * 256, bytes.join(' and '));
  });

  test('are refused by name where there are no products for them', async () => {
    await refused('qwen3', { quantize: 'fp8' }, 'sm_80', /sm_80 does not multiply e4m3.*leave --quantize out/);
    await refused('qwen3-fp8-block', {}, 'sm_80', /sm_80 does not multiply e4m3.*--dtype f32 or --device cpu/);
    await refused('qwen3', { quantize: 'fp8', dtype: 'f32' }, 'sm_90a', /leave --quantize or --dtype f32 out/);
    await refused('llama-fp8-static', { quantize: 'fp8' }, 'sm_90a', /of 8 bits already: leave --quantize out/);
    const gpu = new SimulatedGpu();
    const odd = await openCheckpoint(directory('llama-odd-sizes'));
    const load = CudaModel.load(gpu, odd, { ...LOAD, quantize: 'fp8' });
    await assert.rejects(load, roseError('unsupported', /depth is 40; rows must be whole multiples of 16 bytes/));
    await odd.close();
    const checkpoint = await openCheckpoint(directory('qwen3-fp8-block'));
    const without = (name: string, change: (tensor: CheckpointTensor) => CheckpointTensor): Checkpoint => ({
      ...checkpoint,
      tensors: checkpoint.tensors.map((tensor) => (tensor.parameter.name === name ? change(tensor) : tensor)),
    });
    const mixed = without('blocks.0.mixer.k.weight', ({ fp8: _fp8, ...rest }) => rest);
    await assert.rejects(CudaModel.load(gpu, mixed, LOAD), roseError('unsupported', /k_proj\.weight are one product/));
    const cut = without('blocks.0.mixer.k.weight', (tensor) => {
      return { ...tensor, parameter: { ...tensor.parameter, shape: [64, 128] } };
    });
    await assert.rejects(CudaModel.load(gpu, cut, LOAD), roseError('unsupported', /k_proj.*no whole blocks of 128/));
    await checkpoint.close();
    assert.equal(gpu.used, 0);
  });
});

const isBlockMatrix = ({ parameter: { kind, name } }: CheckpointTensor): boolean => {
  return kind === 'matrix' && name.startsWith('blocks.');
};

describe('keys and values of e4m3', () => {
  test('are near those of 16 bits, in half of the bytes', async () => {
    const results: { logits: Float32Array[]; bytes: number; right: Float32Array[] }[] = [];
    for (const cacheDtype of [undefined, 'fp8'] as const) {
      await onSimulated('qwen3', { cacheDtype }, async (model, _gpu, checkpoint) => {
        const [{ bytes, pages }] = model.memory.pages;
        const right = await reference(checkpoint, { quantize: false, cache: cacheDtype ?? 'bf16' });
        results.push({ logits: await outputsOf(model, checkpoint), bytes: bytes / pages, right });
      });
    }
    const [wide, narrow] = results;
    assert.equal(narrow.bytes, wide.bytes / 2);
    // Some roundings to 8 bits come out the other way; without them logits would be four times as far off.
    assert.ok(apart(narrow.logits, narrow.right) < 0.05, `${apart(narrow.logits, narrow.right)}`);
    assert.ok(apart(wide.logits, narrow.right) > 0.1, `${apart(wide.logits, narrow.right)}`);
    assert.ok(apart(wide.logits, wide.right) < 0.02, `${apart(wide.logits, wide.right)}`);
  });

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
