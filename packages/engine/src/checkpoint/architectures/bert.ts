import { join } from 'node:path';
import { z } from 'zod';
import { RoseError } from '../../errors.ts';
import type { BlockSpec, HeadSpec, ModelSpec, NormSpec } from '../../model/spec.ts';
import { checkJson } from '../json.ts';
import { activationOf } from './activation.ts';
import type { Architecture, TensorNames } from './architecture.ts';
import { readSentenceFiles } from './sentence.ts';

const size = z.int().positive();

const configSchema = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  max_position_embeddings: size,
  type_vocab_size: size.default(2),
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: z.number().positive().default(1e-12),
  position_embedding_type: z.string().nullish(),
  is_decoder: z.boolean().nullish(),
  add_cross_attention: z.boolean().nullish(),
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: size.nullish(),
});

type Config = z.output<typeof configSchema>;

/** BERT (arXiv:1810.04805): post-norm blocks of bidirectional attention over learned positions. */
export const bertArchitectures: readonly Architecture[] = [
  {
    name: 'BertModel',
    async read(json, directory) {
      const config = readConfig(json, directory);
      const { pooling, normalize, maxLength, notes } = await readSentenceFiles(directory, config.hidden_size);
      const head: HeadSpec = { kind: 'embedding', pooling, normalize };
      return { spec: specOf('BertModel', config, head, maxLength, directory), names: namesOf(['', 'bert.']), notes };
    },
  },
  {
    name: 'BertForSequenceClassification',
    async read(json, directory) {
      const config = readConfig(json, directory);
      const labels = labelsOf(config, join(directory, 'config.json'));
      // BertPooler: a dense layer with tanh over the first token's hidden state.
      const head: HeadSpec = { kind: 'classifier', pooling: 'cls', pooler: true, labels };
      const spec = specOf('BertForSequenceClassification', config, head, undefined, directory);
      return { spec, names: namesOf(['bert.', '']), notes: [] };
    },
  },
];

function readConfig(json: unknown, directory: string): Config {
  const path = join(directory, 'config.json');
  const config = checkJson(path, configSchema, json);
  if (config.is_decoder || config.add_cross_attention) {
    throw new RoseError('unsupported', `${path}: Rose does not run BERT as a decoder ("is_decoder")`);
  }
  const positions = config.position_embedding_type ?? 'absolute';
  if (positions !== 'absolute') {
    throw new RoseError(
      'unsupported',
      `${path}: "position_embedding_type": only "absolute" is supported, not "${positions}"`,
    );
  }
  if (config.hidden_size % config.num_attention_heads !== 0) {
    throw new RoseError(
      'invalid',
      `${path}: "hidden_size" (${config.hidden_size}) is not a multiple of "num_attention_heads" (${config.num_attention_heads})`,
    );
  }
  return config;
}

function specOf(
  architecture: string,
  config: Config,
  head: HeadSpec,
  maxLength: number | undefined,
  directory: string,
): ModelSpec {
  const norm: NormSpec = { kind: 'layer', epsilon: config.layer_norm_eps };
  const headDim = config.hidden_size / config.num_attention_heads;
  const block: BlockSpec = {
    normPlacement: 'post',
    mixerNorm: norm,
    mixer: {
      kind: 'attention',
      heads: config.num_attention_heads,
      kvHeads: config.num_attention_heads,
      headDim,
      mask: 'bidirectional',
      window: undefined,
      scale: headDim ** -0.5,
      rope: undefined,
      qkNorm: undefined,
      qkvBias: true,
      outputBias: true,
    },
    channelNorm: norm,
    channel: {
      kind: 'dense',
      size: config.intermediate_size,
      activation: activationOf(config.hidden_act, join(directory, 'config.json')),
      gated: false,
      bias: true,
    },
  };
  return {
    architecture,
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    contextLength: Math.min(config.max_position_embeddings, maxLength ?? Infinity),
    embedding: { positions: config.max_position_embeddings, types: config.type_vocab_size, norm },
    blocks: Array.from({ length: config.num_hidden_layers }, () => block),
    finalNorm: undefined,
    head,
  };
}

/** Labels in the order of the classifier's rows; without names, transformers' two `LABEL_i`. */
function labelsOf(config: Config, path: string): string[] {
  if (!config.id2label) return Array.from({ length: config.num_labels ?? 2 }, (_, i) => `LABEL_${i}`);
  const { id2label } = config;
  return Object.keys(id2label).map((_, i) => {
    const label = id2label[String(i)];
    if (label === undefined) {
      throw new RoseError('invalid', `${path}: "id2label" should have the keys 0, 1, 2...; there is no ${i}`);
    }
    return label;
  });
}

function namesOf(prefixes: readonly string[]): TensorNames {
  return {
    prefixes,
    anchor: 'embeddings.word_embeddings.weight',
    body: {
      'embedding.tokens': 'embeddings.word_embeddings',
      'embedding.positions': 'embeddings.position_embeddings',
      'embedding.types': 'embeddings.token_type_embeddings',
      'embedding.norm': 'embeddings.LayerNorm',
      'blocks.*.mixer.q': 'encoder.layer.*.attention.self.query',
      'blocks.*.mixer.k': 'encoder.layer.*.attention.self.key',
      'blocks.*.mixer.v': 'encoder.layer.*.attention.self.value',
      'blocks.*.mixer.output': 'encoder.layer.*.attention.output.dense',
      'blocks.*.mixerNorm': 'encoder.layer.*.attention.output.LayerNorm',
      'blocks.*.channel.up': 'encoder.layer.*.intermediate.dense',
      'blocks.*.channel.down': 'encoder.layer.*.output.dense',
      'blocks.*.channelNorm': 'encoder.layer.*.output.LayerNorm',
      'head.pooler': 'pooler.dense',
    },
    head: { 'head.classifier': 'classifier' },
    // The original TensorFlow checkpoints call a norm's weight gamma and its bias beta.
    suffixes: { weight: ['weight', 'gamma'], bias: ['bias', 'beta'] },
    ignored: [
      { pattern: /(^|\.)embeddings\.position_ids$/, reason: '0, 1, 2...: a buffer of older versions of transformers' },
      { pattern: /(^|\.)embeddings\.token_type_ids$/, reason: 'zeros: a buffer of older versions of transformers' },
      {
        pattern: /(^|\.)pooler\.dense\.(weight|bias)$/,
        reason: 'trained for next sentence prediction; embeddings pool the tokens',
      },
      { pattern: /^cls\./, reason: "the pretraining tasks' heads" },
    ],
  };
}
