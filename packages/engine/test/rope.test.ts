import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ropeOf } from '../src/checkpoint/architectures/rope.ts';
import { ropeFrequencies, ropeTables } from '../src/model/rope.ts';

interface Golden {
  head_dim: number;
  cases: {
    name: string;
    config: { max_position_embeddings: number; rope_parameters: Record<string, unknown> };
    frequencies: string;
    positions: number[];
    cos: string[];
    sin: string[];
  }[];
}

const golden: Golden = JSON.parse(
  readFileSync(new URL('../../../test/checkpoints/rope.json', import.meta.url), 'utf8'),
);

/** Two roundings of float32 apart: torch's vectorised power is itself off by up to one. */
const CLOSE = 2 ** -22;

function floats(text: string): Float32Array {
  return new Float32Array(Uint8Array.fromBase64(text).buffer);
}

for (const { name, config, frequencies, positions, cos, sin } of golden.cases) {
  test(`rotary tables of ${name} are those of transformers`, () => {
    const rope = ropeOf(config, golden.head_dim, 'config.json');
    const ours = ropeFrequencies(rope);
    const theirs = floats(frequencies);
    assert.equal(ours.length, golden.head_dim / 2);
    theirs.forEach((frequency, i) => {
      assert.ok(Math.abs(ours[i] / frequency - 1) <= CLOSE, `pair ${i}: ${ours[i]}, expected ${frequency}`);
    });
    const tables = ropeTables(rope, Math.max(...positions) + 1);
    for (const [row, position] of positions.entries()) {
      for (const [table, expected] of [
        [tables.cos, floats(cos[row])],
        [tables.sin, floats(sin[row])],
      ]) {
        expected.forEach((value, i) => {
          // The frequency's rounding grows with the position; the attention factor may be above 1.
          const bound = 3e-7 + CLOSE * position * theirs[i] * 1.5;
          const found = table[position * ours.length + i];
          assert.ok(Math.abs(found - value) <= bound, `position ${position}, pair ${i}: ${found}, expected ${value}`);
        });
      }
    }
  });
}

test('position 0 turns nothing, and a table row is one position', () => {
  const { cos, sin } = ropeTables({ theta: 10_000, dim: 4, scaling: { kind: 'none' } }, 3);
  assert.deepEqual([...cos.subarray(0, 2)], [1, 1]);
  assert.deepEqual([...sin.subarray(0, 2)], [0, 0]);
  assert.ok(Math.abs(sin[4] - Math.sin(2)) < 1e-7);
  assert.ok(Math.abs(sin[5] - Math.sin(0.02)) < 1e-7);
});
