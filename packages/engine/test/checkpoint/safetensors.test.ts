import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { RoseError } from '../../src/errors.ts';
import { openSafetensors } from '../../src/checkpoint/safetensors.ts';
import { openFilesUnder, roseError, safetensors, temporaryDirectory, type Header } from './files.ts';

const directory = temporaryDirectory();
const path = join(directory, 'some.safetensors');

/** 2 x 3 float32, then 4 bfloat16, then nothing at all. */
const good: Header = {
  __metadata__: { format: 'pt' },
  a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  b: { dtype: 'BF16', shape: [4], data_offsets: [24, 32] },
  none: { dtype: 'F32', shape: [0, 7], data_offsets: [32, 32] },
};
const data = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

function tensor(name: string, fields: Record<string, unknown>): Header {
  return { ...good, [name]: { ...(good[name] as Header), ...fields } };
}

test('reads tensors into memory that others share, in pieces and side by side', async () => {
  writeFileSync(path, safetensors(good, data));
  const file = await openSafetensors(path);
  const [a, b, none] = file.tensors;
  assert.deepEqual(
    [a, b, none].map(({ name, dtype, shape, byteLength }) => [name, dtype, shape, byteLength]),
    [
      ['a', 'F32', [2, 3], 24],
      ['b', 'BF16', [4], 8],
      ['none', 'F32', [0, 7], 0],
    ],
  );
  const buffer = new SharedArrayBuffer(4096);
  const whole = new Uint8Array(buffer, 100, 32);
  await Promise.all([
    file.read(a, [whole.subarray(0, 10)], 0),
    file.read(a, [whole.subarray(10, 24)], 10),
    file.read(b, [whole.subarray(24)], 0),
    file.read(none, [whole.subarray(0, 0)], 0),
  ]);
  assert.deepEqual([...whole], [...data]);
  await assert.rejects(file.read(b, [new Uint8Array(9)], 0), roseError('internal', /tensor "b"/));
  await file.close();
});

test('a file that shrinks while it is open gives an error naming the tensor', async () => {
  writeFileSync(path, safetensors(good, data));
  const file = await openSafetensors(path);
  truncateSync(path, safetensors(good, data).byteLength - 3);
  await assert.rejects(
    file.read(file.tensors[1], [new Uint8Array(8)], 0),
    roseError('invalid', /tensor "b": the file ended 3 bytes early/),
  );
  await file.close();
});

const refused: [what: string, file: Uint8Array, message: RegExp][] = [
  ['an empty file', new Uint8Array(0), /not a safetensors file/],
  ['a file shorter than its header', safetensors(good, data).subarray(0, 60), /cut short.*whole file has 60/],
  ['a file shorter than its data', safetensors(good, data.subarray(0, 27)), /tensor "b".*cut short/],
  ['an impossible header length', new Uint8Array(16).fill(255), /18446744073709551615 bytes \(the limit/],
  ['a header over the limit', Uint8Array.from([1, 225, 245, 5, 0, 0, 0, 0, 0]), /100000001 bytes \(the limit/],
  ['a header that is not JSON', safetensors('{"a": ', data), /not valid JSON/],
  ['a header that is not UTF-8', safetensors(Uint8Array.from([0x7b, 0xff, 0x7d]), data), /not valid JSON in UTF-8/],
  ['a header with a byte order mark', safetensors(`\uFEFF${JSON.stringify(good)}`, data), /not valid JSON/],
  ['a header that is a list', safetensors('[]', data), /not a JSON object/],
  ['a tensor twice', safetensors(`{"a": 1, "\\u0061": 2}`, data), /key "a" twice/],
  ['a field twice', safetensors('{"a": {"dtype": "F32", "shape": [1], "shape": [8]}}', data), /key "shape" twice/],
  ['a tensor that is no object', safetensors({ ...good, a: 7 }, data), /tensor "a".*not an object/],
  ['metadata that is no text', safetensors({ ...good, __metadata__: { a: 1 } }, data), /__metadata__/],
  ['an unknown dtype', safetensors(tensor('b', { dtype: 'Q4_0' }), data), /tensor "b": unknown dtype "Q4_0"/],
  ['no dtype', safetensors(tensor('b', { dtype: undefined }), data), /tensor "b": its dtype is missing/],
  ['no shape', safetensors(tensor('b', { shape: undefined }), data), /tensor "b": its shape/],
  ['a negative extent', safetensors(tensor('b', { shape: [-4] }), data), /tensor "b": its shape/],
  ['half an element', safetensors(tensor('b', { shape: [4.5] }), data), /tensor "b": its shape/],
  ['an extent as text', safetensors(tensor('b', { shape: ['4'] }), data), /tensor "b": its shape/],
  ['one offset', safetensors(tensor('b', { data_offsets: [24] }), data), /tensor "b": its data_offsets/],
  ['a fractional offset', safetensors(tensor('b', { data_offsets: [24, 31.5] }), data), /tensor "b": its data_offsets/],
  ['a negative offset', safetensors(tensor('b', { data_offsets: [-8, 0] }), data), /tensor "b": its data_offsets/],
  ['an offset above 2^53', safetensors(tensor('b', { data_offsets: [24, 2 ** 60] }), data), /its data_offsets/],
  ['reversed offsets', safetensors(tensor('b', { data_offsets: [32, 24] }), data), /tensor "b": its data ends/],
  ['another size than the shape', safetensors(tensor('b', { shape: [5] }), data), /\[5\] of BF16 is 10 bytes.* has 8/],
  [
    'a shape whose size overflows into the right one',
    safetensors(tensor('b', { shape: [2 ** 31, 2 ** 32, 4] }), data),
    /tensor "b": shape .* is 73786976294838206464 bytes/,
  ],
  [
    'a shape of broken bytes',
    safetensors(tensor('b', { dtype: 'F4', shape: [15] }), data),
    /tensor "b": shape \[15\] of F4 is no whole number of bytes/,
  ],
  ['overlapping tensors', safetensors(tensor('b', { data_offsets: [20, 28] }), data), /"b": its data overlaps.*"a"/],
  [
    'a hole',
    safetensors(tensor('b', { data_offsets: [26, 34] }), Uint8Array.from({ length: 34 })),
    /2 bytes before its data belong to no tensor/,
  ],
  ['bytes after the last tensor', safetensors(good, new Uint8Array(40)), /last 8 bytes belong to no tensor/],
  ['offsets beyond the file', safetensors(tensor('b', { shape: [400], data_offsets: [24, 824] }), data), /cut short/],
];

describe('a safetensors file is refused', () => {
  for (const [what, file, message] of refused) {
    test(`with ${what}`, async () => {
      writeFileSync(path, file);
      await assert.rejects(openSafetensors(path), roseError('invalid', message));
      assert.deepEqual(openFilesUnder(directory), []);
    });
  }

  test('when it is no file', async () => {
    await assert.rejects(openSafetensors(directory), roseError('invalid', /not a regular file/));
    await assert.rejects(openSafetensors(`${path}.not`), roseError('not_found', /no such file/));
  });

  test('with a header nested too deep for a stack', async () => {
    writeFileSync(path, safetensors(`{"a": ${'['.repeat(200_000)}${']'.repeat(200_000)}}`, data));
    await assert.rejects(openSafetensors(path), roseError('invalid', /tensor "a"/));
  });
});

test('dtypes that Rose cannot compute with can still be in a file', async () => {
  writeFileSync(path, safetensors(tensor('b', { dtype: 'I64', shape: [1] }), data));
  const file = await openSafetensors(path);
  assert.equal(file.tensors[1].dtype, 'I64');
  await file.close();
});

/** A small generator with a seed (xorshift32), so that a failure can be repeated. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

test('any damage to a file gives a sound set of tensors or a RoseError, and leaves no file open', async () => {
  const original = safetensors(good, data);
  const random = randomFrom(20_260_101);
  const pieces = ['"', '{', '}', '[', ']', ',', '-', '9', '0', 'e', '.', '\\', '\0', 'dtype', 'F64', '99999999'];
  const values = [-1, 0, 1, 23, 24, 25, 31, 32, 33, 2 ** 31, 2 ** 53, 1e300, 0.5, null, 'F16', [], {}, true];
  let opened = 0;
  let rejected = 0;
  for (let round = 0; round < 4000; round++) {
    let file: Uint8Array = original.slice();
    const text = JSON.stringify(good);
    switch (random(5)) {
      case 0: // Bytes anywhere, the length among them.
        for (let i = 0; i <= random(4); i++) file[random(file.length)] = random(256);
        break;
      case 1: // Another length of file.
        file = random(2) ? file.subarray(0, random(file.length)) : safetensors(good, new Uint8Array(random(64)));
        break;
      case 2: {
        // Text that is nearly JSON.
        const at = random(text.length);
        file = safetensors(text.slice(0, at) + pieces[random(pieces.length)] + text.slice(at + random(3)), data);
        break;
      }
      case 3: {
        // A field with another value.
        const name = ['a', 'b', 'none'][random(3)];
        const field = ['dtype', 'shape', 'data_offsets'][random(3)];
        const value = () => values[random(values.length)];
        file = safetensors(tensor(name, { [field]: random(2) ? value() : [value(), value()] }), data);
        break;
      }
      default: // Offsets and shapes that are numbers at least.
        file = safetensors(
          tensor(['a', 'b', 'none'][random(3)], {
            data_offsets: [random(40), random(40)],
            shape: [random(8), random(4)],
          }),
          data,
        );
    }
    writeFileSync(path, file);
    try {
      const found = await openSafetensors(path);
      opened++;
      // Everything that is believed can be read: no read may leave the file.
      for (const entry of found.tensors) {
        assert.ok(entry.offset + entry.byteLength <= file.byteLength);
        await found.read(entry, [new Uint8Array(entry.byteLength)], 0);
      }
      await found.close();
    } catch (error) {
      rejected++;
      assert.ok(error instanceof RoseError, `round ${round}: ${String((error as Error).stack)}`);
      assert.equal(error.code, 'invalid', `round ${round}: ${error.message}`);
      assert.ok(error.message.includes(path), `round ${round}: ${error.message}`);
    }
  }
  assert.ok(opened > 100 && rejected > 2000, `${opened} opened, ${rejected} rejected`);
  assert.deepEqual(openFilesUnder(directory), []);
});
