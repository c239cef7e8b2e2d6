import { join } from 'node:path';
import { z } from 'zod';
import { RoseError } from '../../errors.ts';
import type { AttentionSpec, BlockSpec, ModelSpec, NormSpec } from '../../model/spec.ts';
import { checkJson, readJson } from '../json.ts';
import { activationOf } from './activation.ts';
import type { Architecture, TensorNames } from './architecture.ts';
import { ropeOf } from './rope.ts';

/** Llama and the families that vary it: pre-norm blocks of rotary grouped-query attention and a gated channel part. */
export const llamaArchitectures: readonly Architecture[] = [
  family('LlamaForCausalLM', {
    biases: (config) => ({ qkv: config.attention_bias, output: config.attention_bias, channel: config.mlp_bias }),
    qkNorm: false,
    sliding: false,
    defaultHeadDim: undefined,
  }),
  family('Qwen2ForCausalLM', {
    // Not in the configuration: the model's code has them so.
    biases: () => ({ qkv: true, output: false, channel: false }),
    qkNorm: false,
    sliding: true,
    defaultHeadDim: undefined,
  }),
  family('Qwen3ForCausalLM', {
    biases: (config) => ({ qkv: config.attention_bias, output: config.attention_bias, channel: false }),
    qkNorm: true,
    sliding: true,
    defaultHeadDim: 128,
  }),
];

interface Traits {
  biases(config: Config): { qkv: boolean; output: boolean; channel: boolean };
  readonly qkNorm: boolean;
  /** Whether layers may have a sliding window. */
  readonly sliding: boolean;
  /** `head_dim` where the configuration has none; undefined: hidden size over heads. */
  readonly defaultHeadDim: number | undefined;
}

const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const size = z.int().positive();

const configSchema = z.looseObject({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.string().default('silu'),
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  max_position_embeddings: size,
  use_sliding_window: flag,
  // The two defaults are those of transformers' Qwen2Config and Qwen3Config.
  sliding_window: size.nullable().default(4096),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: z.array(z.string()).nullish(),
});

type Config = z.output<typeof configSchema>;

function family(name: string, traits: Traits): Architecture {
  return {
    name,
    async read(json, directory) {
      const path = join(directory, 'config.json');
      const config = checkJson(path, configSchema, json);
      return { spec: specOf(name, config, traits, path), names: namesOf(config), notes: await notesOf(directory) };
    },
  };
}

function specOf(architecture: string, config: Config, traits: Traits, path: string): ModelSpec {
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw new RoseError(
      'invalid',
      `${path}: "num_attention_heads" (${heads}) is not a multiple of "num_key_value_heads" (${kvHeads})`,
    );
  }
  const headDim = config.head_dim ?? traits.defaultHeadDim ?? config.hidden_size / heads;
  if (!Number.isInteger(headDim)) {
    throw new RoseError(
      'invalid',
      `${path}: "hidden_size" (${config.hidden_size}) is not a multiple of "num_attention_heads" (${heads})`,
    );
  }
  const norm: NormSpec = { kind: 'rms', epsilon: config.rms_norm_eps };
  const biases = traits.biases(config);
  const mixer: AttentionSpec = {
    kind: 'attention',
    heads,
    kvHeads,
    headDim,
    mask: 'causal',
    window: undefined,
    scale: headDim ** -0.5,
    rope: ropeOf(config, headDim, path),
    qkNorm: traits.qkNorm ? norm : undefined,
    qkvBias: biases.qkv,
    outputBias: biases.output,
  };
  const windows = windowsOf(config, traits, path);
  const block = (window: number | undefined): BlockSpec => ({
    normPlacement: 'pre',
    mixerNorm: norm,
    mixer: { ...mixer, window },
    channelNorm: norm,
    channel: {
      kind: 'dense',
      size: config.intermediate_size,
      activation: activationOf(config.hidden_act, path),
      gated: true,
      bias: biases.channel,
    },
  });
  return {
    architecture,
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    contextLength: config.max_position_embeddings,
    embedding: { positions: 0, types: 0, norm: undefined },
    blocks: windows.map(block),
    finalNorm: norm,
    head: { kind: 'logits', tied: config.tie_word_embeddings },
  };
}

/** Each layer's window. `layer_types` decides where it is given; else the layers from `max_window_layers` on slide. */
function windowsOf(config: Config, traits: Traits, path: string): (number | undefined)[] {
  const layers = config.num_hidden_layers;
  if (!traits.sliding) return Array.from({ length: layers }, () => undefined);
  const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
  const types =
    config.layer_types ??
    Array.from({ length: layers }, (_, i) =>
      window !== undefined && i >= config.max_window_layers ? 'sliding_attention' : 'full_attention',
    );
  if (types.length !== layers) {
    throw new RoseError(
      'invalid',
      `${path}: "layer_types" has ${types.length} entries, "num_hidden_layers" is ${layers}`,
    );
  }
  return types.map((type, i) => {
    if (type === 'full_attention') return undefined;
    if (type !== 'sliding_attention') {
      throw new RoseError(
        'unsupported',
        `${path}: "layer_types.${i}": Rose has no layer type "${type}" for this model (it has full_attention and sliding_attention)`,
      );
    }
    if (window === undefined) {
      throw new RoseError(
        'invalid',
        `${path}: "layer_types.${i}" is sliding_attention, but "use_sliding_window" and "sliding_window" give no window`,
      );
    }
    return window;
  });
}

/** Embedding models made from decoders are told apart by their files of sentence-transformers alone. */
async function notesOf(directory: string): Promise<string[]> {
  const sentence = await readJson(directory, 'modules.json', z.unknown());
  return sentence === undefined ? [] : ['modules.json is there, but Rose runs this architecture as a generator only.'];
}

function namesOf(config: Config): TensorNames {
  return {
    prefixes: ['model.', ''],
    anchor: 'embed_tokens.weight',
    body: {
      'embedding.tokens': 'embed_tokens',
      'blocks.*.mixerNorm': 'layers.*.input_layernorm',
      'blocks.*.mixer.q': 'layers.*.self_attn.q_proj',
      'blocks.*.mixer.k': 'layers.*.self_attn.k_proj',
      'blocks.*.mixer.v': 'layers.*.self_attn.v_proj',
      'blocks.*.mixer.qNorm': 'layers.*.self_attn.q_norm',
      'blocks.*.mixer.kNorm': 'layers.*.self_attn.k_norm',
      'blocks.*.mixer.output': 'layers.*.self_attn.o_proj',
      'blocks.*.channelNorm': 'layers.*.post_attention_layernorm',
      'blocks.*.channel.gate': 'layers.*.mlp.gate_proj',
      'blocks.*.channel.up': 'layers.*.mlp.up_proj',
      'blocks.*.channel.down': 'layers.*.mlp.down_proj',
      finalNorm: 'norm',
    },
    head: { 'head.logits': 'lm_head' },
    suffixes: { weight: ['weight'], bias: ['bias'] },
    ignored: [
      { pattern: /(^|\.)rotary_emb\.inv_freq$/, reason: 'computed from the configuration' },
      ...(config.tie_word_embeddings
        ? [
            {
              pattern: /^lm_head\.weight$/,
              reason: 'a copy of the token embedding, which the configuration ties to it',
            },
          ]
        : []),
    ],
  };
}
