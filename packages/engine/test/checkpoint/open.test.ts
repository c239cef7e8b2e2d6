import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../src/checkpoint/open.ts';
import type { ErrorCode } from '../../src/errors.ts';
import type { ModelSpec } from '../../src/model/spec.ts';
import {
  change,
  copyOf,
  openFilesUnder,
  reference,
  rewrite,
  roseError,
  temporaryDirectory,
  type Header,
} from './files.ts';

async function specOf(directory: string): Promise<ModelSpec> {
  const checkpoint = await openCheckpoint(directory);
  await checkpoint.close();
  return checkpoint.spec;
}

async function refuses(directory: string, code: ErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(openCheckpoint(directory), roseError(code, message));
  assert.deepEqual(openFilesUnder(directory), []);
}

type Edit = [what: string, fields: Record<string, unknown>, code: ErrorCode, message: RegExp];

function refusesConfigs(name: string, edits: Edit[]): void {
  for (const [what, fields, code, message] of edits) {
    test(`${name}: ${what}`, async () => {
      const directory = copyOf(name);
      change(directory, 'config.json', fields);
      await refuses(directory, code, message);
    });
  }
}

describe('configurations are refused with the field named', () => {
  refusesConfigs('llama-rope-yarn', [
    [
      'unknown architecture',
      { architectures: ['GPT2LMHeadModel'] },
      'unsupported',
      /GPT2LMHeadModel.*LlamaForCausalLM/,
    ],
    ['no architecture', { architectures: undefined }, 'invalid', /"architectures" is missing/],
    ['quantized', { quantization_config: { quant_method: 'gptq' } }, 'unsupported', /quantized \(gptq\)/],
    ['missing field', { hidden_size: undefined }, 'invalid', /"hidden_size": is missing/],
    ['field of another type', { hidden_size: '32' }, 'invalid', /"hidden_size": should be of type number, is "32"/],
    ['half a layer', { num_hidden_layers: 1.5 }, 'invalid', /"num_hidden_layers": should be a whole number, is 1.5/],
    ['no heads', { num_attention_heads: 0 }, 'invalid', /"num_attention_heads": should be more than 0, is 0/],
    ['uneven groups', { num_attention_heads: 4, num_key_value_heads: 3 }, 'invalid', /"num_key_value_heads" \(3\)/],
    [
      'uneven heads',
      { num_attention_heads: 3, num_key_value_heads: 3 },
      'invalid',
      /not a multiple of "num_attention_heads"/,
    ],
    ['odd head', { head_dim: 15 }, 'invalid', /even head size, this one is 15/],
    ['unknown activation', { hidden_act: 'mish' }, 'unsupported', /"hidden_act": Rose has no activation "mish"/],
    ['partial rotation', { partial_rotary_factor: 0.5 }, 'unsupported', /"partial_rotary_factor"/],
    ['dynamic scaling', { rope_scaling: { type: 'dynamic', factor: 2 } }, 'unsupported', /no rotary scaling "dynamic"/],
    ['longrope', { rope_scaling: { rope_type: 'longrope' } }, 'unsupported', /no rotary scaling "longrope"/],
    ['scaling without factor', { rope_scaling: { type: 'linear' } }, 'invalid', /"rope_scaling": "factor": is missing/],
    [
      'llama3 scaling without a ramp',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      'invalid',
      /"high_freq_factor" must be greater/,
    ],
    [
      'parameters for each kind of layer',
      { rope_scaling: undefined, rope_parameters: { rope_type: 'linear', full_attention: { factor: 2 } } },
      'invalid',
      /"rope_parameters": "factor": is missing/,
    ],
    ['end token outside', { eos_token_id: [2, 200] }, 'invalid', /"eos_token_id": 200 is not in the vocabulary of 200/],
  ]);
  refusesConfigs('qwen3-mixed', [
    ['too few layer types', { layer_types: ['full_attention'] }, 'invalid', /"layer_types" has 1 entries/],
    [
      'unknown layer type',
      { layer_types: ['full_attention', 'linear_attention', 'full_attention'] },
      'unsupported',
      /"layer_types.1": Rose has no layer type "linear_attention"/,
    ],
    ['window without a size', { use_sliding_window: false }, 'invalid', /"layer_types.0" is sliding_attention, but/],
  ]);
  refusesConfigs('bert-mean', [
    ['decoder', { is_decoder: true }, 'unsupported', /as a decoder/],
    ['relative positions', { position_embedding_type: 'relative_key' }, 'unsupported', /not "relative_key"/],
  ]);
  refusesConfigs('bert-score-3', [
    ['labels with a gap', { id2label: { 0: 'a', 2: 'b' } }, 'invalid', /"id2label".*there is no 1/],
    [
      'another number of labels',
      { id2label: { 0: 'a' } },
      'invalid',
      /"classifier.weight": its shape is \[3, 32\].*\[1, 32\]/,
    ],
  ]);

  test('a configuration that is not JSON', async () => {
    const directory = copyOf('qwen2');
    writeFileSync(join(directory, 'config.json'), '{"a": ');
    await refuses(directory, 'invalid', /config\.json: not valid JSON/);
  });

  test('a generation file with nonsense', async () => {
    const directory = copyOf('qwen2');
    writeFileSync(join(directory, 'generation_config.json'), '{"top_p": 1.5}');
    await refuses(directory, 'invalid', /generation_config\.json: "top_p": should be at most 1, is 1\.5/);
  });
});

describe('configurations in other spellings', () => {
  test('transformers 5 and 4 say the same', async () => {
    const directory = copyOf('llama-rope-yarn');
    const old = await specOf(directory);
    change(directory, 'config.json', {
      rope_theta: undefined,
      rope_scaling: undefined,
      rope_parameters: { rope_type: 'yarn', rope_theta: 10_000, factor: 4, original_max_position_embeddings: 32 },
    });
    assert.deepEqual(await specOf(directory), old);
  });

  test('no word about RoPE means theta 10,000', async () => {
    const directory = copyOf('llama-gqa');
    change(directory, 'config.json', { rope_theta: undefined, rope_scaling: undefined });
    assert.deepEqual(await specOf(directory), await specOf(reference('llama-gqa')));
  });

  test('the default type of scaling is none', async () => {
    const directory = copyOf('llama-gqa');
    change(directory, 'config.json', { rope_scaling: { rope_type: 'default' } });
    assert.deepEqual(await specOf(directory), await specOf(reference('llama-gqa')));
  });

  test('a window only counts where it is used', async () => {
    const directory = copyOf('qwen2-window');
    change(directory, 'config.json', { use_sliding_window: false });
    const { blocks } = await specOf(directory);
    assert.deepEqual(
      blocks.map(({ mixer }) => mixer.window),
      [undefined, undefined, undefined],
    );
  });

  test('a model without names for its labels', async () => {
    const directory = copyOf('bert-score-3');
    change(directory, 'config.json', { id2label: undefined, num_labels: 3 });
    const { head } = await specOf(directory);
    assert.deepEqual(head.kind === 'classifier' && head.labels, ['LABEL_0', 'LABEL_1', 'LABEL_2']);
  });

  test('generation defaults', async () => {
    const directory = copyOf('qwen2');
    const given = { temperature: 0.6, top_k: 40, top_p: 0.9, min_p: null, do_sample: true, eos_token_id: [5, 3, 5] };
    writeFileSync(join(directory, 'generation_config.json'), JSON.stringify(given));
    const checkpoint = await openCheckpoint(directory);
    await checkpoint.close();
    const { temperature, topK, topP, minP, sample, endTokens } = checkpoint.defaults;
    assert.deepEqual([temperature, topK, topP, minP, sample, endTokens], [0.6, 40, 0.9, undefined, true, [5, 3]]);
  });
});

describe('files of sentence-transformers', () => {
  const modules = (kinds: string[]): unknown[] =>
    kinds.map((kind, idx) => ({ idx, name: `${idx}`, path: idx === 0 ? '' : `${idx}_${kind}`, type: `a.b.${kind}` }));
  const cases: [what: string, edit: (directory: string) => void, code: ErrorCode, message: RegExp][] = [
    [
      'a Dense module',
      (at) => writeFileSync(join(at, 'modules.json'), JSON.stringify(modules(['Transformer', 'Pooling', 'Dense']))),
      'unsupported',
      /not "Transformer, Pooling, Dense"/,
    ],
    [
      'no Pooling module',
      (at) => writeFileSync(join(at, 'modules.json'), JSON.stringify(modules(['Transformer']))),
      'unsupported',
      /not "Transformer"/,
    ],
    ['no modules', (at) => writeFileSync(join(at, 'modules.json'), '[]'), 'invalid', /modules\.json: should be/],
    [
      'a path out of the model',
      (at) =>
        writeFileSync(
          join(at, 'modules.json'),
          JSON.stringify(modules(['T/../x.Transformer', 'Pooling']).map((m) => ({ ...(m as object), path: '../x' }))),
        ),
      'unsupported',
      /should lie beside modules.json/,
    ],
    [
      'a pooling path out of the model',
      (at) =>
        writeFileSync(
          join(at, 'modules.json'),
          JSON.stringify([
            { path: '', type: 'Transformer' },
            { path: '../1_Pooling', type: 'Pooling' },
          ]),
        ),
      'invalid',
      /"\.\.\/1_Pooling" is not a folder of this model/,
    ],
    [
      'two poolings',
      (at) => change(at, '1_Pooling/config.json', { pooling_mode_cls_token: true }),
      'unsupported',
      /several poolings \(cls, mean\)/,
    ],
    [
      'weighted mean',
      (at) => change(at, '1_Pooling/config.json', { pooling_mode: 'weightedmean' }),
      'unsupported',
      /no pooling "weightedmean"/,
    ],
    [
      'another width',
      (at) => change(at, '1_Pooling/config.json', { word_embedding_dimension: 64 }),
      'invalid',
      /vectors of 64 numbers, the encoder's have 32/,
    ],
    [
      'a missing pooling file',
      (at) => rmSync(join(at, '1_Pooling'), { recursive: true }),
      'invalid',
      /missing; modules\.json/,
    ],
  ];
  for (const [what, edit, code, message] of cases) {
    test(`${what} is refused`, async () => {
      const directory = copyOf('bert-mean');
      edit(directory);
      await refuses(directory, code, message);
    });
  }

  test('no flag at all means the mean', async () => {
    const directory = copyOf('bert-cls');
    change(directory, '1_Pooling/config.json', { pooling_mode: undefined });
    const { head } = await specOf(directory);
    assert.deepEqual(head, { kind: 'embedding', pooling: 'mean', normalize: true });
  });

  test('a limit above the positions changes nothing', async () => {
    const directory = copyOf('bert-mean');
    change(directory, 'sentence_bert_config.json', { max_seq_length: 512 });
    assert.equal((await specOf(directory)).contextLength, 96);
  });

  test('what is left to the client is noted', async () => {
    const directory = copyOf('bert-mean');
    change(directory, 'sentence_bert_config.json', { do_lower_case: true });
    writeFileSync(join(directory, 'config_sentence_transformers.json'), '{"default_prompt_name": "query"}');
    const checkpoint = await openCheckpoint(directory);
    await checkpoint.close();
    assert.match(checkpoint.notes.join(' '), /prompt "query".*lower case/);
  });
});

test('a decoder that sentence-transformers would take for an encoder says so', async () => {
  const directory = copyOf('qwen3');
  writeFileSync(join(directory, 'modules.json'), '[]');
  const checkpoint = await openCheckpoint(directory);
  await checkpoint.close();
  assert.match(checkpoint.notes.join(), /as a generator only/);
});

describe('weights', () => {
  const llama = 'model.layers.1.self_attn.q_proj.weight';
  const edits: [what: string, name: string, edit: (header: Header) => void, code: ErrorCode, message: RegExp][] = [
    [
      'a missing tensor',
      'llama-gqa',
      (header) => rename(header, llama, 'model.layers.1.self_attn.q_proj.weights'),
      'invalid',
      /a tensor is missing: model\.layers\.1\.self_attn\.q_proj\.weight$/,
    ],
    [
      'an unexpected tensor',
      'bert-mean',
      (header) => rename(header, 'pooler.dense.weight', 'pooler.other.weight'),
      'invalid',
      /a tensor is not part of the model that config\.json describes: pooler\.other\.weight$/,
    ],
    [
      'another shape',
      'llama-gqa',
      (header) => ((header[llama] as Header)['shape'] = [32, 128]),
      'invalid',
      /"model\.layers\.1\.self_attn\.q_proj\.weight": its shape is \[32, 128\]; by config\.json it should be \[64, 64\]/,
    ],
    [
      'a dtype that is not read',
      'llama-gqa',
      (header) => ((header[llama] as Header)['dtype'] = 'I16'),
      'unsupported',
      /q_proj\.weight": dtype I16 is not supported \(Rose reads F32, F16, BF16\)/,
    ],
  ];
  for (const [what, name, edit, code, message] of edits) {
    test(`${what} is named`, async () => {
      const directory = copyOf(name);
      rewrite(directory, edit);
      await refuses(directory, code, message);
    });
  }

  test('biases that the configuration does not know are refused, not dropped', async () => {
    const directory = copyOf('llama-biases-tied');
    change(directory, 'config.json', { attention_bias: false });
    await refuses(directory, 'invalid', /8 tensors are not part of the model.*q_proj\.bias.*and 2 more/);
  });

  test('many missing tensors are counted', async () => {
    const directory = copyOf('llama-gqa');
    change(directory, 'config.json', { num_hidden_layers: 4 });
    await refuses(directory, 'invalid', /18 tensors are missing: model\.layers\.2\..*and 12 more/);
  });

  test('a body saved without its prefix opens', async () => {
    const directory = copyOf('qwen3');
    rewrite(directory, (header) => {
      for (const name of Object.keys(header)) if (name.startsWith('model.')) rename(header, name, name.slice(6));
    });
    assert.deepEqual(await specOf(directory), await specOf(reference('qwen3')));
  });

  test('known buffers of old files are passed over', async () => {
    const directory = copyOf('llama-biases-tied');
    rewrite(directory, (header) => {
      // Taken from a tensor's tail, so that the file stays whole.
      const norm = header['model.norm.weight'] as { shape: number[]; data_offsets: number[] };
      const [, end] = norm.data_offsets;
      header['model.layers.0.self_attn.rotary_emb.inv_freq'] = { dtype: 'F32', shape: [0], data_offsets: [end, end] };
      header['lm_head.weight'] = { dtype: 'BF16', shape: [0, 32], data_offsets: [end, end] };
    });
    assert.deepEqual(await specOf(directory), await specOf(reference('llama-biases-tied')));
  });

  test('an output matrix is not passed over where it is not tied', async () => {
    const directory = copyOf('llama-biases-tied');
    change(directory, 'config.json', { tie_word_embeddings: false });
    await refuses(directory, 'invalid', /missing: lm_head\.weight/);
  });

  function rename(header: Header, from: string, to: string): void {
    header[to] = header[from];
    delete header[from];
  }
});

describe('shards', () => {
  const index = 'model.safetensors.index.json';
  const first = 'model-00001-of-00003.safetensors';

  test('a missing shard is named', async () => {
    const directory = copyOf('llama-sharded');
    rmSync(join(directory, first));
    await refuses(directory, 'not_found', /1 of 3 weight files are missing: model-00001-of-00003\.safetensors/);
  });

  test('a tensor in another shard than listed', async () => {
    const directory = copyOf('llama-sharded');
    const swapped = join(directory, 'model-00002-of-00003.safetensors');
    renameSync(join(directory, first), join(directory, 'x'));
    renameSync(swapped, join(directory, first));
    renameSync(join(directory, 'x'), swapped);
    await refuses(directory, 'invalid', /should be in model-0000\d-of-00003\.safetensors, but is in/);
  });

  test('a tensor that is listed and nowhere', async () => {
    const directory = copyOf('llama-sharded');
    change(directory, index, { weight_map: { 'model.none': first } });
    await refuses(directory, 'invalid', /tensor "model\.none" should be in .*, and is in no file/);
  });

  test('a tensor in two shards', async () => {
    const directory = copyOf('llama-sharded');
    const [twin, other] = ['twin.safetensors', 'other.safetensors'];
    change(directory, index, { weight_map: { a: twin, b: other } });
    for (const name of [twin, other])
      writeFileSync(
        join(directory, name),
        Buffer.concat([
          Buffer.from([58, 0, 0, 0, 0, 0, 0, 0]),
          Buffer.from('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.padEnd(58)),
          Buffer.alloc(4),
        ]),
      );
    await refuses(directory, 'invalid', /tensor "a" is in both/);
  });

  for (const outside of [
    '../llama.safetensors',
    '/etc/passwd',
    'a/b.safetensors',
    'C:\\x.safetensors',
    'model.bin',
    '',
  ]) {
    test(`${JSON.stringify(outside)} is not a shard`, async () => {
      const directory = copyOf('llama-sharded');
      change(directory, index, { weight_map: { 'model.norm.weight': outside } });
      await refuses(directory, 'invalid', /is not the name of a safetensors file in this directory/);
    });
  }
});

describe('directories that are no models', () => {
  test('nothing there', async () => {
    await refuses(join(temporaryDirectory(), 'none'), 'not_found', /no such model directory/);
  });

  test('no config.json', async () => {
    await refuses(temporaryDirectory(), 'not_found', /there is no config\.json/);
  });

  test('a file', async () => {
    const path = join(temporaryDirectory(), 'model.gguf');
    writeFileSync(path, 'GGUF');
    await refuses(path, 'invalid', /not a directory.*GGUF files are not read/);
  });

  for (const [file, code, message] of [
    ['model.gguf', 'unsupported', /model\.gguf is a GGUF file/],
    ['pytorch_model.bin', 'unsupported', /pytorch_model\.bin is a PyTorch pickle.*save_pretrained/],
    ['adapter.safetensors', 'not_found', /neither model\.safetensors nor.*there is adapter\.safetensors/],
    ['notes.txt', 'not_found', /neither model\.safetensors nor model\.safetensors\.index\.json is there$/],
  ] as const) {
    test(`only ${file} for weights`, async () => {
      const directory = copyOf('qwen3');
      rmSync(join(directory, 'model.safetensors'));
      writeFileSync(join(directory, file), '');
      await refuses(directory, code, message);
    });
  }

  test('a directory for weights', async () => {
    const directory = copyOf('qwen3');
    rmSync(join(directory, 'model.safetensors'));
    mkdirSync(join(directory, 'model.safetensors'));
    await refuses(directory, 'invalid', /model\.safetensors: not a regular file/);
  });
});
