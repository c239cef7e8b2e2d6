/**
 * Checkpoints of the shapes that people serve, with random weights: real directories of Hugging Face's form, in bfloat16, made once
 * (`.cache/bench`). Weights of a matrix are a piece of one table of normal numbers, so that 16 GB take seconds.
 */
import { join } from 'node:path';
import { makeOnce, writeJson } from './cache.ts';
import { normalSamples, RandomBits, randomBf16 } from './random.ts';
import { SafetensorsWriter, type TensorShape } from './safetensors.ts';
import { byteVocabulary, BEGIN, END, tokenizerConfig, tokenizerJson } from './vocabulary.ts';

export interface LlamaShape {
  readonly name: string;
  readonly architecture: 'LlamaForCausalLM' | 'Qwen3ForCausalLM';
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly channel: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly tied: boolean;
}

/** Llama-3.1-8B, Llama-3.2-1B and Qwen3-0.6B by their config.json; contexts are shorter. */
export const LLAMA_SHAPES: readonly LlamaShape[] = [
  {
    name: 'llama-8b',
    architecture: 'LlamaForCausalLM',
    layers: 32,
    hidden: 4096,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    channel: 14336,
    vocabulary: 128_256,
    context: 16_384,
    tied: false,
  },
  {
    name: 'llama-1b',
    architecture: 'LlamaForCausalLM',
    layers: 16,
    hidden: 2048,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    channel: 8192,
    vocabulary: 128_256,
    context: 16_384,
    tied: true,
  },
  {
    name: 'qwen3-0.6b',
    architecture: 'Qwen3ForCausalLM',
    layers: 28,
    hidden: 1024,
    heads: 16,
    kvHeads: 8,
    headDim: 128,
    channel: 3072,
    vocabulary: 151_936,
    context: 16_384,
    tied: true,
  },
];

const SEED = 8;
/** Weights of the table from which matrices are pieces: more than a level-2 cache holds, though nothing depends on it. */
const TABLE = 2 ** 25;

interface Weight extends TensorShape {
  readonly deviation: number;
  readonly mean: number;
}

/** Bytes of bfloat16 weights that a step of decoding reads: all but a table of embeddings that is not the output matrix, too. */
export function readBytes(shape: LlamaShape): number {
  const all = weights(shape).reduce((sum, { shape: size }) => sum + size.reduce((product, n) => product * n, 1), 0);
  return 2 * (all - (shape.tied ? 0 : shape.vocabulary * shape.hidden));
}

/** Bytes of a token's keys and values, bfloat16. */
export function tokenBytes({ layers, kvHeads, headDim }: LlamaShape): number {
  return 2 * 2 * layers * kvHeads * headDim;
}

/** The directory of a shape's checkpoint; written on the first call. */
export function makeLlamaShape(shape: LlamaShape): Promise<string> {
  return makeOnce(shape.name, (directory) => write(shape, directory));
}

/**
 * The directory of a shape's checkpoint whose weights were never written: its file is as long as it must be and takes no room.
 * For what reads no weights.
 */
export function sketchLlamaShape(shape: LlamaShape): Promise<string> {
  return makeOnce(`${shape.name}-sketch`, async (directory) => {
    await writeTexts(shape, directory);
    const list = weights(shape);
    const writer = await SafetensorsWriter.create(join(directory, 'model.safetensors'), 'BF16', list);
    await writer.leaveEmpty();
  });
}

async function writeTexts(shape: LlamaShape, directory: string): Promise<void> {
  const vocabulary = byteVocabulary(Math.min(shape.vocabulary, 60_000));
  await writeJson(join(directory, 'config.json'), config(shape));
  await writeJson(join(directory, 'tokenizer.json'), tokenizerJson(vocabulary));
  await writeJson(join(directory, 'tokenizer_config.json'), tokenizerConfig());
}

async function write(shape: LlamaShape, directory: string): Promise<void> {
  await writeTexts(shape, directory);
  const list = weights(shape);
  const file = join(directory, 'model.safetensors');
  const writer = await SafetensorsWriter.create(file, 'BF16', list);
  const samples = normalSamples(SEED);
  const bits = new RandomBits(SEED + 1);
  const tables = new Map<string, Uint16Array>();
  for (const { shape: size, deviation, mean } of list) {
    const key = `${mean} ${deviation}`;
    let table = tables.get(key);
    if (table === undefined) {
      table = randomBf16(samples, bits, TABLE, deviation, mean);
      tables.set(key, table);
    }
    for (let left = size.reduce((product, extent) => product * extent, 1); left > 0;) {
      // Each piece begins elsewhere, so that no two matrices are the same.
      const from = 8 * bits.below(TABLE / 16);
      const count = Math.min(left, TABLE - from);
      await writer.write(table.subarray(from, from + count));
      left -= count;
    }
  }
  await writer.close();
}

function config(shape: LlamaShape): object {
  return {
    architectures: [shape.architecture],
    model_type: shape.architecture === 'LlamaForCausalLM' ? 'llama' : 'qwen3',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    intermediate_size: shape.channel,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    head_dim: shape.headDim,
    max_position_embeddings: shape.context,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    attention_bias: false,
    tie_word_embeddings: shape.tied,
    vocab_size: shape.vocabulary,
    bos_token_id: BEGIN,
    eos_token_id: END,
    torch_dtype: 'bfloat16',
    use_cache: true,
  };
}

/** Matrices keep the variance of what they multiply; those that add to the residual stream are scaled down by their number. */
function weights(shape: LlamaShape): Weight[] {
  const { architecture, layers, hidden, heads, kvHeads, headDim, channel, vocabulary, tied } = shape;
  const unit = (inputs: number): number => inputs ** -0.5;
  const residual = (inputs: number): number => unit(inputs) / Math.sqrt(2 * layers);
  const matrix = (name: string, rows: number, columns: number, deviation = unit(columns)): Weight => {
    return { name: `${name}.weight`, shape: [rows, columns], deviation, mean: 0 };
  };
  const norm = (name: string, size: number): Weight => {
    return { name: `${name}.weight`, shape: [size], deviation: 0.1, mean: 1 };
  };
  const list: Weight[] = [matrix('model.embed_tokens', vocabulary, hidden, tied ? 0.05 : 1)];
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    list.push(
      norm(`${at}.input_layernorm`, hidden),
      matrix(`${at}.self_attn.q_proj`, heads * headDim, hidden),
      matrix(`${at}.self_attn.k_proj`, kvHeads * headDim, hidden),
      matrix(`${at}.self_attn.v_proj`, kvHeads * headDim, hidden),
      matrix(`${at}.self_attn.o_proj`, hidden, heads * headDim, residual(heads * headDim)),
      norm(`${at}.post_attention_layernorm`, hidden),
      matrix(`${at}.mlp.gate_proj`, channel, hidden),
      matrix(`${at}.mlp.up_proj`, channel, hidden),
      matrix(`${at}.mlp.down_proj`, hidden, channel, residual(channel)),
    );
    if (architecture === 'Qwen3ForCausalLM') {
      list.push(norm(`${at}.self_attn.q_norm`, headDim), norm(`${at}.self_attn.k_norm`, headDim));
    }
  }
  list.push(norm('model.norm', hidden));
  if (!tied) list.push(matrix('lm_head', vocabulary, hidden, 2 * unit(hidden)));
  return list;
}
