/**
 * Write a synthetic Llama of 374 million parameters: the same random weights as a Hugging Face directory in bfloat16
 * (for Rose) and as GGUF in BF16, Q4_0 and Q8_0 (for llama.cpp).
 *
 *   node bench/make-llama.ts
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BEGIN, byteVocabulary, END, tokenizerConfig, tokenizerJson } from './models/vocabulary.ts';
import { makeOnce, writeJson } from './models/cache.ts';
import { GgufWriter, type GgmlType, type GgufValue } from './models/gguf.ts';
import { quantizeQ4, quantizeQ8 } from './models/blocks.ts';
import { fromBf16, normalSamples, RandomBits, randomBf16 } from './models/random.ts';
import { SafetensorsWriter } from './models/safetensors.ts';

export const llama = {
  layers: 24,
  hidden: 1024,
  heads: 16,
  channel: 2816,
  vocabulary: 32_000,
  context: 2048,
  ropeTheta: 10_000,
  epsilon: 1e-5,
} as const;

const SEED = 374;

/** One weight under its two names. */
interface Weight {
  readonly name: string;
  readonly gguf: string;
  readonly shape: readonly number[];
  readonly deviation: number;
  readonly mean?: number;
  /** Rows of each head to be reordered for llama.cpp's RoPE. */
  readonly rope?: true;
}

/**
 * Matrices keep the variance of what they multiply; the two that add to the residual stream are scaled down by their
 * number (GPT-2's initialization), and the output matrix up, so that logits have a clear winner.
 */
function weights(): Weight[] {
  const { layers, hidden, channel, vocabulary } = llama;
  const unit = (inputs: number): number => inputs ** -0.5;
  const residual = (inputs: number): number => unit(inputs) / Math.sqrt(2 * layers);
  const norm = { shape: [hidden], mean: 1, deviation: 0.1 };
  const list: Weight[] = [
    { name: 'model.embed_tokens', gguf: 'token_embd', shape: [vocabulary, hidden], deviation: 1 },
  ];
  for (let i = 0; i < layers; i++) {
    const from = `model.layers.${i}`;
    const to = `blk.${i}`;
    const attention = (name: string, gguf: string, rest: { rope?: true; deviation: number }): Weight => {
      return { name: `${from}.self_attn.${name}`, gguf: `${to}.${gguf}`, shape: [hidden, hidden], ...rest };
    };
    list.push(
      { name: `${from}.input_layernorm`, gguf: `${to}.attn_norm`, ...norm },
      attention('q_proj', 'attn_q', { rope: true, deviation: unit(hidden) }),
      attention('k_proj', 'attn_k', { rope: true, deviation: unit(hidden) }),
      attention('v_proj', 'attn_v', { deviation: unit(hidden) }),
      attention('o_proj', 'attn_output', { deviation: residual(hidden) }),
      { name: `${from}.post_attention_layernorm`, gguf: `${to}.ffn_norm`, ...norm },
    );
    const mlp = (name: string, gguf: string, shape: number[], deviation: number): Weight => {
      return { name: `${from}.mlp.${name}`, gguf: `${to}.${gguf}`, shape, deviation };
    };
    list.push(
      mlp('gate_proj', 'ffn_gate', [channel, hidden], unit(hidden)),
      mlp('up_proj', 'ffn_up', [channel, hidden], unit(hidden)),
      mlp('down_proj', 'ffn_down', [hidden, channel], residual(channel)),
    );
  }
  list.push(
    { name: 'model.norm', gguf: 'output_norm', ...norm },
    { name: 'lm_head', gguf: 'output', shape: [vocabulary, hidden], deviation: 2 * unit(hidden) },
  );
  return list.map((weight) => ({ ...weight, name: `${weight.name}.weight`, gguf: `${weight.gguf}.weight` }));
}

/** `llama.hf` is the Hugging Face directory; the others are files. */
export interface LlamaFiles {
  readonly directory: string;
  readonly bf16: string;
  readonly q4: string;
  readonly q8: string;
}

/** The checkpoint's files; made on the first call (some seconds, 2.1 GB). */
export async function makeLlama(): Promise<LlamaFiles> {
  const directory = await makeOnce('llama-374m', write);
  const file = (name: string): string => join(directory, name);
  return { directory: file('hf'), bf16: file('bf16.gguf'), q4: file('q4_0.gguf'), q8: file('q8_0.gguf') };
}

async function write(directory: string): Promise<void> {
  const vocabulary = byteVocabulary(llama.vocabulary);
  const list = weights();
  const hf = join(directory, 'hf');
  await mkdir(hf);
  await writeJson(join(hf, 'config.json'), huggingFaceConfig());
  await writeJson(join(hf, 'tokenizer.json'), tokenizerJson(vocabulary));
  await writeJson(join(hf, 'tokenizer_config.json'), tokenizerConfig());

  const safetensors = await SafetensorsWriter.create(join(hf, 'model.safetensors'), 'BF16', list);
  const gguf = (file: string, type: GgmlType, fileType: number): Promise<GgufWriter> => {
    // llama.cpp wants norms in float32.
    const tensors = list.map(({ gguf: name, shape }) => ({
      name,
      shape,
      type: shape.length === 1 ? ('F32' as const) : type,
    }));
    return GgufWriter.create(join(directory, file), ggufMetadata(vocabulary, fileType), tensors);
  };
  // The last number is llama.h's `enum llama_ftype`.
  const bf16 = await gguf('bf16.gguf', 'BF16', 32);
  const q4 = await gguf('q4_0.gguf', 'Q4_0', 2);
  const q8 = await gguf('q8_0.gguf', 'Q8_0', 7);

  const samples = normalSamples(SEED);
  const bits = new RandomBits(SEED + 1);
  for (const { shape, deviation, mean, rope } of list) {
    const length = shape.reduce((product, size) => product * size, 1);
    const weight = randomBf16(samples, bits, length, deviation, mean);
    await safetensors.write(weight);
    const ggml = rope ? interleaveHeads(weight) : weight;
    const wide = fromBf16(ggml);
    if (shape.length === 1) {
      for (const file of [bf16, q4, q8]) await file.write(wide);
    } else {
      await bf16.write(ggml);
      await q4.write(quantizeQ4(wide));
      await q8.write(quantizeQ8(wide));
    }
  }
  for (const file of [safetensors, bf16, q4, q8]) await file.close();
}

/**
 * Hugging Face's RoPE turns rows (i, i + 32) of a head of 64 together, llama.cpp's turns (2 i, 2 i + 1): bring the
 * former to the latter's places.
 */
function interleaveHeads(weight: Uint16Array): Uint16Array {
  const { hidden, heads } = llama;
  const half = hidden / heads / 2;
  const output = new Uint16Array(weight.length);
  for (let row = 0; row < hidden; row++) {
    const head = Math.floor(row / (2 * half));
    const inside = row % (2 * half);
    const target = 2 * half * head + 2 * (inside % half) + Math.floor(inside / half);
    output.set(weight.subarray(row * hidden, (row + 1) * hidden), target * hidden);
  }
  return output;
}

function huggingFaceConfig(): object {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: llama.hidden,
    intermediate_size: llama.channel,
    num_hidden_layers: llama.layers,
    num_attention_heads: llama.heads,
    num_key_value_heads: llama.heads,
    hidden_act: 'silu',
    rms_norm_eps: llama.epsilon,
    rope_theta: llama.ropeTheta,
    max_position_embeddings: llama.context,
    vocab_size: llama.vocabulary,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: BEGIN,
    eos_token_id: END,
    torch_dtype: 'bfloat16',
  };
}

function ggufMetadata(vocabulary: ReturnType<typeof byteVocabulary>, fileType: number): Record<string, GgufValue> {
  const u32 = (value: number): GgufValue => ({ kind: 'u32', value });
  const text = (value: string): GgufValue => ({ kind: 'string', value });
  const NORMAL = 1;
  const CONTROL = 3;
  return {
    'general.architecture': text('llama'),
    'general.name': text('synthetic Llama, random weights'),
    'general.file_type': u32(fileType),
    'llama.vocab_size': u32(llama.vocabulary),
    'llama.context_length': u32(llama.context),
    'llama.embedding_length': u32(llama.hidden),
    'llama.block_count': u32(llama.layers),
    'llama.feed_forward_length': u32(llama.channel),
    'llama.attention.head_count': u32(llama.heads),
    'llama.attention.head_count_kv': u32(llama.heads),
    'llama.attention.layer_norm_rms_epsilon': { kind: 'f32', value: llama.epsilon },
    'llama.rope.dimension_count': u32(llama.hidden / llama.heads),
    'llama.rope.freq_base': { kind: 'f32', value: llama.ropeTheta },
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.pre': text('gpt-2'),
    'tokenizer.ggml.tokens': { kind: 'strings', value: vocabulary.tokens },
    'tokenizer.ggml.token_type': {
      kind: 'i32s',
      value: vocabulary.tokens.map((_, id) => (id === BEGIN || id === END ? CONTROL : NORMAL)),
    },
    'tokenizer.ggml.merges': { kind: 'strings', value: vocabulary.merges.map((pair) => pair.join(' ')) },
    'tokenizer.ggml.bos_token_id': u32(BEGIN),
    'tokenizer.ggml.eos_token_id': u32(END),
    'tokenizer.ggml.add_bos_token': { kind: 'bool', value: false },
  };
}

if (import.meta.main) console.log(JSON.stringify(await makeLlama(), undefined, 2));
