import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../src/checkpoint/open.ts';
import type { AttentionSpec, ModelSpec, NormSpec } from '../../src/model/spec.ts';
import { parametersOf, sizeOf } from '../../src/model/parameters.ts';
import { reference } from './files.ts';

/**
 * What each reference checkpoint must be read as, said by what sets it apart from the plainest of its kind. The
 * expectations are written out by hand from the options under which the files were made.
 */
const rms = (epsilon: number): NormSpec => ({ kind: 'rms', epsilon });
const rope = (theta: number): AttentionSpec['rope'] => ({ theta, dim: 16, scaling: { kind: 'none' } });

const causal: AttentionSpec = {
  kind: 'attention',
  heads: 2,
  kvHeads: 1,
  headDim: 16,
  mask: 'causal',
  window: undefined,
  scale: 0.25,
  rope: rope(10_000),
  qkNorm: undefined,
  qkvBias: false,
  outputBias: false,
};

interface Traits {
  layers?: number;
  mixer?: Partial<AttentionSpec>;
  /** Of each layer, where they differ. */
  windows?: (number | undefined)[];
  channel?: Partial<ModelSpec['blocks'][number]['channel']>;
  top?: Partial<ModelSpec>;
  epsilon?: number;
}

function decoder(
  architecture: string,
  { layers = 2, mixer, windows, channel, top, epsilon = 1e-5 }: Traits = {},
): ModelSpec {
  return {
    architecture,
    vocabSize: 200,
    hiddenSize: 32,
    contextLength: 128,
    embedding: { positions: 0, types: 0, norm: undefined },
    blocks: Array.from({ length: layers }, (_, i) => ({
      normPlacement: 'pre',
      mixerNorm: rms(epsilon),
      mixer: { ...causal, ...mixer, window: windows?.[i] },
      channelNorm: rms(epsilon),
      channel: { kind: 'dense', size: 64, activation: 'silu', gated: true, bias: false, ...channel },
    })),
    finalNorm: rms(epsilon),
    head: { kind: 'logits', tied: false },
    ...top,
  };
}

function encoder(architecture: string, head: ModelSpec['head'], { mixer, channel, top }: Traits = {}): ModelSpec {
  const norm: NormSpec = { kind: 'layer', epsilon: 1e-12 };
  const block: ModelSpec['blocks'][number] = {
    normPlacement: 'post',
    mixerNorm: norm,
    mixer: { ...causal, kvHeads: 2, mask: 'bidirectional', rope: undefined, qkvBias: true, outputBias: true, ...mixer },
    channelNorm: norm,
    channel: { kind: 'dense', size: 64, activation: 'gelu', gated: false, bias: true, ...channel },
  };
  return {
    architecture,
    vocabSize: 200,
    hiddenSize: 32,
    contextLength: 96,
    embedding: { positions: 96, types: 2, norm },
    blocks: [block, block],
    finalNorm: undefined,
    head,
    ...top,
  };
}

const llama = (traits?: Traits): ModelSpec => decoder('LlamaForCausalLM', traits);
const qwen2 = ({ mixer, ...traits }: Traits): ModelSpec =>
  decoder('Qwen2ForCausalLM', { epsilon: 1e-6, mixer: { qkvBias: true, ...mixer }, ...traits });
const qwen3 = ({ mixer, ...traits }: Traits): ModelSpec =>
  decoder('Qwen3ForCausalLM', {
    epsilon: 1e-6,
    mixer: { qkNorm: rms(1e-6), headDim: 32, scale: 32 ** -0.5, rope: { ...rope(10_000)!, dim: 32 }, ...mixer },
    ...traits,
  });
const tied: Partial<ModelSpec> = { head: { kind: 'logits', tied: true } };
const wide: Partial<AttentionSpec> = { heads: 4, kvHeads: 2 };
const scaled = (dim: number, scaling: NonNullable<AttentionSpec['rope']>['scaling']): Traits => ({
  mixer: { rope: { theta: 10_000, dim, scaling } },
});
const yarn = { kind: 'yarn', factor: 4, originalContext: 32, betaFast: 32, betaSlow: 1, truncate: true } as const;
const embedding = (pooling: 'cls' | 'mean' | 'max' | 'mean_sqrt' | 'last', normalize = false): ModelSpec['head'] => ({
  kind: 'embedding',
  pooling,
  normalize,
});

const narrow = llama({
  mixer: { headDim: 32, scale: 32 ** -0.5, rope: { ...rope(10_000)!, dim: 32 } },
  channel: { size: 96 },
  top: { hiddenSize: 64 },
});

const expected: Record<string, ModelSpec> = {
  'llama-fp8-static': narrow,
  'llama-fp8-channel': narrow,
  'qwen3-fp8-block': qwen3({
    layers: 1,
    mixer: { kvHeads: 2, headDim: 64, scale: 0.125, rope: { ...rope(10_000)!, dim: 64 } },
    channel: { size: 256 },
    top: { hiddenSize: 128 },
  }),
  'llama-gqa': llama({ mixer: wide, top: { hiddenSize: 64 } }),
  'llama-mha-f32': llama({ layers: 3, mixer: { kvHeads: 2, rope: rope(500_000) }, top: { vocabSize: 211 } }),
  'llama-mqa-f16': llama({ mixer: { heads: 4 }, channel: { activation: 'gelu_tanh' }, top: { hiddenSize: 64 } }),
  'llama-odd-sizes': llama({
    mixer: { headDim: 20, scale: 20 ** -0.5, rope: { ...rope(10_000)!, dim: 20 } },
    channel: { size: 76 },
    top: { hiddenSize: 40, vocabSize: 211 },
  }),
  'llama-head-dim': llama({ mixer: { ...wide, headDim: 24, scale: 24 ** -0.5, rope: { ...rope(10_000)!, dim: 24 } } }),
  'llama-biases-tied': llama({ mixer: { qkvBias: true, outputBias: true }, channel: { bias: true }, top: tied }),
  'llama-sharded': llama({ layers: 3 }),
  'llama-rope-linear': llama(scaled(16, { kind: 'linear', factor: 4 })),
  'llama-rope-llama3': llama(
    scaled(16, { kind: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 32 }),
  ),
  'llama-rope-yarn': llama(scaled(16, { ...yarn, attentionFactor: 0.1 * Math.log(4) + 1 })),
  'llama-rope-yarn-mscale': llama(
    scaled(16, {
      ...yarn,
      betaFast: 8,
      betaSlow: 0.5,
      truncate: false,
      attentionFactor: (0.14 * Math.log(4) + 1) / (0.07 * Math.log(4) + 1),
    }),
  ),
  qwen2: qwen2({ mixer: wide, top: { hiddenSize: 64, ...tied } }),
  'qwen2-window': qwen2({ layers: 3, windows: [undefined, 24, 24] }),
  'qwen2-yarn': qwen2(scaled(16, { ...yarn, attentionFactor: 0.1 * Math.log(4) + 1 })),
  qwen3: qwen3({ top: tied }),
  'qwen3-mixed': qwen3({
    layers: 3,
    mixer: { ...wide, headDim: 16, scale: 0.25, rope: rope(1_000_000), qkvBias: true, outputBias: true },
    windows: [16, undefined, 16],
  }),
  'qwen3-yarn': qwen3(scaled(32, { ...yarn, attentionFactor: 1.3 })),
  'bert-mean': encoder('BertModel', embedding('mean', true), { top: { contextLength: 90 } }),
  'bert-cls': encoder('BertModel', embedding('cls', true), {
    mixer: { heads: 1, kvHeads: 1, headDim: 32, scale: 32 ** -0.5 },
  }),
  'bert-max-relu': encoder('BertModel', embedding('max'), { channel: { activation: 'relu' } }),
  'bert-sqrt-gelu-new': encoder('BertModel', embedding('mean_sqrt'), { channel: { activation: 'gelu_tanh' } }),
  'bert-last-legacy': encoder('BertModel', embedding('last')),
  'bert-plain': encoder('BertModel', embedding('mean')),
  'bert-score-1': encoder(
    'BertForSequenceClassification',
    { kind: 'classifier', pooling: 'cls', pooler: true, labels: ['LABEL_0'] },
    { mixer: { heads: 4, kvHeads: 4 }, top: { hiddenSize: 64 } },
  ),
  'bert-score-3': encoder(
    'BertForSequenceClassification',
    { kind: 'classifier', pooling: 'cls', pooler: true, labels: ['contradiction', 'neutral', 'entailment'] },
    { top: { embedding: { positions: 96, types: 1, norm: { kind: 'layer', epsilon: 1e-12 } } } },
  ),
};

describe('reference checkpoints open as what they are', () => {
  for (const [name, spec] of Object.entries(expected)) {
    test(name, async () => {
      const checkpoint = await openCheckpoint(reference(name));
      assert.deepEqual(checkpoint.spec, spec);
      assert.ok(Object.isFrozen(checkpoint.spec.blocks[0].mixer));
      assert.deepEqual(
        checkpoint.tensors.map(({ parameter }) => parameter),
        parametersOf(spec),
      );
      for (const { parameter, byteLength, dtype, fp8 } of checkpoint.tensors) {
        if (fp8 !== undefined) assert.equal(fp8.byteLength, sizeOf(parameter));
        assert.equal(byteLength, sizeOf(parameter) * (dtype === 'F32' ? 4 : 2));
      }
      await checkpoint.close();
    });
  }

  test('and there are no others', () => {
    const directories = readdirSync(reference(''), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    assert.deepEqual(directories.map(({ name }) => name).sort(), Object.keys(expected).sort());
  });
});

test('names and dtypes are those of the files', async () => {
  const legacy = await openCheckpoint(reference('bert-last-legacy'));
  const norm = legacy.tensors.find(({ parameter }) => parameter.name === 'embedding.norm.bias');
  assert.equal(norm?.tensorName, 'bert.embeddings.LayerNorm.beta');
  await legacy.close();

  const sharded = await openCheckpoint(reference('llama-sharded'));
  const dtypes = Object.groupBy(sharded.tensors, ({ dtype }) => dtype);
  assert.ok(dtypes.F32?.every(({ parameter }) => parameter.name.endsWith('orm.weight')));
  assert.deepEqual([dtypes.F32?.length, dtypes.BF16?.length], [7, 23]);
  await sharded.close();
});

test('a checkpoint without pooling files says how it was understood', async () => {
  const checkpoint = await openCheckpoint(reference('bert-plain'));
  assert.match(checkpoint.notes.join(), /no modules\.json.*mean over all tokens, not normalised/);
  await checkpoint.close();
});

test('sampling defaults: of the generation file, else end tokens of the configuration', async () => {
  const plain = await openCheckpoint(reference('qwen3'));
  assert.deepEqual(plain.defaults, {
    temperature: undefined,
    topK: undefined,
    topP: undefined,
    minP: undefined,
    repetitionPenalty: undefined,
    maxNewTokens: undefined,
    sample: false,
    endTokens: [2],
  });
  await plain.close();
});
