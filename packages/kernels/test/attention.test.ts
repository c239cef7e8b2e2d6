import assert from 'node:assert/strict';
import { test } from 'node:test';
import attentionPrefill from '../src/attention_prefill.ts';
import attentionRows from '../src/attention_rows.ts';
import {
  decodeAttention,
  expectedAttention,
  prefillAttention,
  SIMULATED,
  randomSequence,
  relativeError,
  type Settings,
  type Shape,
} from './attention-sequences.ts';

const SHAPE: Shape = { qHeads: 4, kvHeads: 2, head: 64 };
/** bf16 weights and results each round to 2^-9; issue 5 asks for 1e-2. */
const CLOSE = 4e-3;

const ALL: readonly [string, Settings][] = [
  ['causal', {}],
  ['window, cap and sinks', { window: 100, cap: 3, sinks: [0.5, -1, 2, 0] }],
];

for (const [name, settings] of ALL) {
  test(`attention for decoding, ${name}: a row's bits are its own`, () => {
    const [a, b, c] = [randomSequence(SHAPE, 541, 1), randomSequence(SHAPE, 17, 2), randomSequence(SHAPE, 128, 3)];
    const asked = [
      { sequence: b, length: 17, count: 2 },
      { sequence: a, length: 514, count: 3 },
      { sequence: c, length: 128, count: 1 },
    ];
    const together = decodeAttention(asked, SHAPE, settings);
    assert.deepEqual(decodeAttention(asked, SHAPE, settings, 2, SIMULATED, true), together, 'by one kernel');
    assert.ok(relativeError(together, expectedAttention(asked, SHAPE, settings)) < CLOSE);
    const row = SHAPE.qHeads * SHAPE.head;
    let at = 0;
    for (const one of asked) {
      const rows = together.subarray(at * row, (at + one.count) * row);
      assert.deepEqual(decodeAttention([one], SHAPE, settings, 7), rows, 'alone, in other pages');
      for (const token of new Set([0, one.count - 1])) {
        const alone = { ...one, length: one.length - one.count + token + 1, count: 1 };
        const got = decodeAttention([alone], SHAPE, settings, 8 + token);
        assert.deepEqual(
          got,
          rows.subarray(token * row, (token + 1) * row),
          `token ${token} of ${one.count}, one at a time`,
        );
      }
      at += one.count;
    }
  });
}

const PREFILLS: readonly [string, Settings][] = [
  ['causal', {}],
  ['window, cap and sinks', { window: 40, cap: 3, sinks: [0.5, -1] }],
];

const BY = [
  ['the tensor cores', attentionPrefill, { qHeads: 2, kvHeads: 1, head: 64 }],
  ['multiply-adds', attentionRows, { qHeads: 2, kvHeads: 1, head: 24 }],
] as const;

for (const [how, prefill, shape] of BY) {
  for (const [name, settings] of PREFILLS) {
    test(`attention for prompts by ${how}, ${name}: a row's bits are its own`, () => {
      const backend = { ...SIMULATED, prefill };
      const [a, b] = [randomSequence(shape, 150, 1), randomSequence(shape, 33, 2)];
      const whole = { sequence: a, length: 150, count: 150 };
      const bits = prefillAttention([whole], shape, settings, 1, backend);
      assert.ok(relativeError(bits, expectedAttention([whole], shape, settings)) < CLOSE);
      const row = shape.qHeads * shape.head;
      const chunk = (from: number, to: number) => ({ sequence: a, length: to, count: to - from });
      const other = { sequence: b, length: 33, count: 33 };
      const batch = prefillAttention([other, chunk(0, 70), chunk(117, 150)], shape, settings, 5, backend);
      assert.deepEqual(batch.subarray(33 * row, 103 * row), bits.subarray(0, 70 * row), 'the first chunk, in a batch');
      assert.deepEqual(batch.subarray(103 * row), bits.subarray(117 * row), 'the last chunk, in a batch');
      const rows = prefillAttention([chunk(70, 131)], shape, settings, undefined, backend);
      assert.deepEqual(rows, bits.subarray(70 * row, 131 * row), 'the middle, from rows instead of pages');
      const answers = [131, 132].map((at) => chunk(at, at + 1));
      const two = prefillAttention(answers, shape, settings, 6, backend);
      assert.deepEqual(two, bits.subarray(131 * row, 133 * row), 'two tokens, one at a time, in the same pages');
    });
  }
}

test('attention of whole texts sees both sides, and of a batch each its own', () => {
  const shape: Shape = { qHeads: 1, kvHeads: 1, head: 64 };
  const settings: Settings = { mask: 'bidirectional', window: 50 };
  const asked = [129, 15].map((length, i) => ({
    sequence: randomSequence(shape, length, i + 1),
    length,
    count: length,
  }));
  const bits = prefillAttention(asked, shape, settings);
  assert.ok(relativeError(bits, expectedAttention(asked, shape, settings)) < CLOSE);
  assert.deepEqual(
    prefillAttention([asked[1]], shape, settings, 3),
    bits.subarray(129 * shape.head),
    'alone, in pages',
  );
});
