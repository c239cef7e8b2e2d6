import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decodeAttention,
  expectedAttention,
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
