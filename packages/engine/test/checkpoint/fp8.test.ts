import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openCheckpoint } from '../../src/checkpoint/open.ts';
import { change, copyOf, reference, rewrite, roseError, type Header } from './files.ts';

/** Checkpoints of e4m3: what is read of them, and what is refused. Their numbers are held against transformers in the sweep. */

const FIRST = 'model.layers.0.self_attn.q_proj';

describe('checkpoints of e4m3', () => {
  test('keep bytes and scales apart, and read as float32 of any part', async () => {
    for (const [name, kind, scales] of [
      ['llama-fp8-static', 'tensor', 1],
      ['llama-fp8-channel', 'row', 64],
      ['qwen3-fp8-block', 'block', 1],
    ] as const) {
      const checkpoint = await openCheckpoint(reference(name));
      const q = checkpoint.tensors.find(({ tensorName }) => tensorName === `${FIRST}.weight`)!;
      assert.deepEqual([q.fp8?.kind, q.fp8?.scales.count, q.dtype], [kind, scales, 'F32']);
      assert.equal(q.fp8!.byteLength * 4, q.byteLength);
      assert.equal(q.fp8!.input !== undefined, name === 'llama-fp8-static');
      const whole = new Uint8Array(q.byteLength);
      await q.read(whole, 0);
      const [a, b] = [new Uint8Array(4 * 70), new Uint8Array(4 * 3)];
      await q.scatter([a, b], 4 * 100);
      assert.deepEqual(Buffer.concat([a, b]), Buffer.from(whole.subarray(400, 400 + 4 * 73)));
      const bytes = new Uint8Array(q.fp8!.byteLength);
      await q.fp8!.read(bytes, 0);
      assert.ok(new Set(bytes).size > 50);
      await checkpoint.close();
    }
  });

  test('leave alone what is stored in 16 bits, and have scales of keys and values', async () => {
    const checkpoint = await openCheckpoint(reference('llama-fp8-channel'));
    const down = checkpoint.tensors.filter(({ tensorName }) => tensorName.includes('down_proj'));
    assert.deepEqual(
      down.map(({ fp8, dtype }) => [fp8 === undefined, dtype]),
      [
        [false, 'F32'],
        [true, 'BF16'],
      ],
    );
    const { keys, values } = checkpoint.cacheScales.get(1)!;
    assert.deepEqual([...(await keys.read()), ...(await values.read())], [Math.fround(0.06), Math.fround(0.04)]);
    await checkpoint.close();
  });

  const edits: [string, string, (header: Header) => void, 'invalid' | 'unsupported', RegExp][] = [
    [
      'a scale that is missing',
      'qwen3-fp8-block',
      (header) => void delete header[`${FIRST}.weight_scale_inv`],
      'invalid',
      /q_proj\.weight": its scale is missing: there is no .*q_proj\.weight_scale_inv or weight_scale/,
    ],
    [
      'an input scale that is missing',
      'llama-fp8-static',
      (header) => void delete header[`${FIRST}.input_scale`],
      'invalid',
      /its input scale is missing/,
    ],
    [
      'a scale of another shape',
      'llama-fp8-channel',
      (header) => {
        const entry = header[`${FIRST}.weight_scale`] as { shape: number[]; data_offsets: [number, number] };
        header[`${FIRST}.weight_scale`] = {
          ...entry,
          shape: [1, 1],
          data_offsets: [entry.data_offsets[0], entry.data_offsets[0] + 2],
        };
        header.rest = { dtype: 'U8', shape: [126], data_offsets: [entry.data_offsets[0] + 2, entry.data_offsets[1]] };
      },
      'invalid',
      /its shape is \[1, 1\], but there should be 64 scales/,
    ],
  ];
  for (const [what, name, edit, code, says] of edits) {
    test(`refuse ${what}`, async () => {
      const directory = copyOf(name);
      // What lies where an entry was taken away belongs to another name, which is no part of the model.
      rewrite(directory, (header) => {
        const before = { ...header };
        edit(header);
        for (const [key, entry] of Object.entries(before)) {
          if (!(key in header)) header[`unknown.${key}`] = entry;
        }
      });
      await assert.rejects(openCheckpoint(directory), roseError(code, says));
    });
  }

  const group = (fields: object): object => {
    return { quant_method: 'compressed-tensors', format: 'float-quantized', config_groups: { group_0: fields } };
  };
  const e4m3 = { num_bits: 8, type: 'float', strategy: 'channel' };
  for (const [what, config, code, says] of [
    ['another method', { quant_method: 'awq' }, 'unsupported', /quantized \(awq\)/],
    [
      'blocks of another size',
      { quant_method: 'fp8', weight_block_size: [64, 64] },
      'unsupported',
      /blocks of weights are 64 x 64; Rose reads 128 x 128/,
    ],
    [
      'static scales beside blocks',
      { quant_method: 'fp8', activation_scheme: 'static', weight_block_size: [128, 128] },
      'unsupported',
      /static scales; Rose reads dynamic ones/,
    ],
    ['scales of another format', { quant_method: 'fp8', scale_fmt: 'ue8m0' }, 'unsupported', /"scale_fmt" is ue8m0/],
    [
      'packed integers',
      { ...group({ weights: e4m3 }), format: 'pack-quantized' },
      'unsupported',
      /"format" is pack-quantized/,
    ],
    ['weights alone', group({ weights: e4m3 }), 'unsupported', /"input_activations" are not quantized/],
    [
      'four bits',
      group({ weights: { ...e4m3, num_bits: 4 }, input_activations: e4m3 }),
      'unsupported',
      /"weights" are 4 bits of float/,
    ],
    ['two groups', { ...group({}), config_groups: { a: {}, b: {} } }, 'unsupported', /"config_groups" has 2 groups/],
    [
      'a module that is not to be quantized, but is',
      { quant_method: 'fp8', activation_scheme: 'static', modules_to_not_convert: ['model.layers.0'] },
      'invalid',
      /q_proj\.weight": its dtype is F8_E4M3, but config\.json says/,
    ],
    [
      'a list that nobody can read',
      { quant_method: 'fp8', ignored_layers: ['(?P<n>x)'] },
      'unsupported',
      /no regular expression that Rose reads/,
    ],
  ] as const) {
    test(`refuse ${what}`, async () => {
      const directory = copyOf('llama-fp8-static');
      change(directory, 'config.json', { quantization_config: config });
      await assert.rejects(openCheckpoint(directory), roseError(code, says));
    });
  }

  test('are read under the old name of their layout, and held against the list of what is left alone', async () => {
    const directory = copyOf('llama-fp8-channel');
    const arguments_ = { num_bits: 8, type: 'float', strategy: 'channel', dynamic: false };
    const groups = {
      config_groups: { g: { weights: arguments_, input_activations: { ...arguments_, dynamic: true } } },
    };
    const old = { quant_method: 'compressed-tensors', format: 'naive-quantized', ...groups };
    change(directory, 'config.json', { quantization_config: { ...old, ignore: ['lm_head'] } });
    await (await openCheckpoint(directory)).close();
    change(directory, 'config.json', { quantization_config: { ...old, ignore: ['re:.*layers\\.0\\.self_attn.*'] } });
    await assert.rejects(
      openCheckpoint(directory),
      roseError('invalid', /layers\.0\.self_attn\.q_proj.*not quantized/),
    );
  });

  test('refuse e4m3 of which the configuration says nothing', async () => {
    const directory = copyOf('llama-fp8-static');
    change(directory, 'config.json', { quantization_config: undefined });
    await assert.rejects(openCheckpoint(directory), roseError('unsupported', /dtype F8_E4M3 is not supported/));
  });

  test('refuse a scale that is no finite number when it is read', async () => {
    const directory = copyOf('llama-fp8-static');
    const path = join(directory, 'model.safetensors');
    const file = readFileSync(path);
    const length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<
      string,
      { data_offsets: [number, number] }
    >;
    file.writeFloatLE(Number.NaN, 8 + length + header[`${FIRST}.weight_scale`].data_offsets[0]);
    writeFileSync(path, file);
    const checkpoint = await openCheckpoint(directory);
    const q = checkpoint.tensors.find(({ tensorName }) => tensorName === `${FIRST}.weight`)!;
    await assert.rejects(q.read(new Uint8Array(q.byteLength), 0), roseError('invalid', /negative or no finite number/));
    await checkpoint.close();
  });
});
