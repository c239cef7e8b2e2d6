/**
 * Write a synthetic BERT of the shape of BERT-base as two Hugging Face directories, float32 and bfloat16. The weights
 * are random bfloat16 numbers, so both hold the same model. `bert_to_onnx.py` makes the ONNX files of the former.
 *
 *   node bench/make-bert.ts
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeOnce, writeJson } from './models/cache.ts';
import { fromBf16, normalSamples, RandomBits, randomBf16 } from './models/random.ts';
import { SafetensorsWriter } from './models/safetensors.ts';
import { wordPieceTokenizerJson } from './models/word-pieces.ts';

export const bert = {
  layers: 12,
  hidden: 768,
  heads: 12,
  channel: 3072,
  vocabulary: 30_522,
  positions: 512,
} as const;

const SEED = 110;

interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly deviation: number;
  readonly mean?: number;
}

function weights(): Weight[] {
  const { layers, hidden, channel, vocabulary, positions } = bert;
  const linear = (name: string, outputs: number, inputs: number): Weight[] => [
    { name: `${name}.weight`, shape: [outputs, inputs], deviation: inputs ** -0.5 },
    { name: `${name}.bias`, shape: [outputs], deviation: 0.1 },
  ];
  const norm = (name: string): Weight[] => [
    { name: `${name}.weight`, shape: [hidden], mean: 1, deviation: 0.1 },
    { name: `${name}.bias`, shape: [hidden], deviation: 0.1 },
  ];
  const table = (name: string, rows: number): Weight => {
    return { name: `embeddings.${name}_embeddings.weight`, shape: [rows, hidden], deviation: 1 };
  };
  const layer = (_: unknown, i: number): Weight[] => {
    const at = `encoder.layer.${i}`;
    return [
      ...['query', 'key', 'value'].flatMap((name) => linear(`${at}.attention.self.${name}`, hidden, hidden)),
      ...linear(`${at}.attention.output.dense`, hidden, hidden),
      ...norm(`${at}.attention.output.LayerNorm`),
      ...linear(`${at}.intermediate.dense`, channel, hidden),
      ...linear(`${at}.output.dense`, hidden, channel),
      ...norm(`${at}.output.LayerNorm`),
    ];
  };
  return [
    table('word', vocabulary),
    table('position', positions),
    table('token_type', 2),
    ...norm('embeddings.LayerNorm'),
    ...Array.from({ length: layers }, layer).flat(),
  ];
}

/** Directories of the checkpoint, and where the ONNX files belong. */
export interface BertFiles {
  readonly f32: string;
  readonly bf16: string;
  readonly onnx: string;
}

/** The checkpoint's directories; made on the first call (a few seconds, 650 MB). */
export async function makeBert(): Promise<BertFiles> {
  const directory = await makeOnce('bert-base', async (unfinished) => {
    for (const dtype of ['F32', 'BF16'] as const) await write(join(unfinished, dtype.toLowerCase()), dtype);
  });
  return { f32: join(directory, 'f32'), bf16: join(directory, 'bf16'), onnx: join(directory, 'onnx') };
}

async function write(directory: string, dtype: 'F32' | 'BF16'): Promise<void> {
  await mkdir(join(directory, '1_Pooling'), { recursive: true });
  await writeJson(join(directory, 'config.json'), {
    architectures: ['BertModel'],
    model_type: 'bert',
    hidden_size: bert.hidden,
    intermediate_size: bert.channel,
    num_hidden_layers: bert.layers,
    num_attention_heads: bert.heads,
    hidden_act: 'gelu',
    layer_norm_eps: 1e-12,
    max_position_embeddings: bert.positions,
    type_vocab_size: 2,
    vocab_size: bert.vocabulary,
    pad_token_id: 0,
    torch_dtype: dtype === 'F32' ? 'float32' : 'bfloat16',
  });
  await writeJson(join(directory, 'tokenizer.json'), wordPieceTokenizerJson(bert.vocabulary));
  await writeJson(join(directory, 'tokenizer_config.json'), {
    tokenizer_class: 'BertTokenizer',
    model_max_length: 512,
  });
  // What sentence-transformers adds: the mean of the tokens, divided by its length.
  await writeJson(
    join(directory, 'modules.json'),
    ['', '1_Pooling', '2_Normalize'].map((path, idx) => ({
      idx,
      name: String(idx),
      path,
      type: `sentence_transformers.models.${['Transformer', 'Pooling', 'Normalize'][idx]}`,
    })),
  );
  await writeJson(join(directory, '1_Pooling', 'config.json'), {
    word_embedding_dimension: bert.hidden,
    pooling_mode_mean_tokens: true,
  });
  const list = weights();
  const file = await SafetensorsWriter.create(join(directory, 'model.safetensors'), dtype, list);
  const samples = normalSamples(SEED);
  const bits = new RandomBits(SEED + 1);
  for (const { shape, deviation, mean } of list) {
    const length = shape.reduce((product, size) => product * size, 1);
    const weight = randomBf16(samples, bits, length, deviation, mean);
    await file.write(dtype === 'F32' ? fromBf16(weight) : weight);
  }
  await file.close();
}

if (import.meta.main) console.log(JSON.stringify(await makeBert(), undefined, 2));
