import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { encode, greedyTokens, hand, openOnCpu, sameBits, stepLogits } from './on-cpu.ts';

const directory = fileURLToPath(new URL('../../../test/checkpoints', import.meta.url));

interface Golden {
  readonly cases: readonly {
    readonly input_ids: number[];
    readonly token_type_ids?: number[];
    readonly positions?: number[];
    /** One row for each position, base64. */
    readonly logits?: string[];
    readonly greedy?: number[];
    readonly embedding?: string;
    readonly scores?: number[];
  }[];
}

function floats(base64: string): Float32Array {
  const bytes = Buffer.from(base64, 'base64');
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/**
 * Both sides compute in float32 and differ in the order of their sums alone: values of size 1 to 10 after a few layers
 * of widths up to 128 agree to about 1e-5; ten times that is far below what a wrong option does (see the README there).
 */
const BOUND = 1e-4;

function assertClose(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < expected.length; i++) {
    const bound = BOUND * Math.max(1, Math.abs(expected[i]));
    assert.ok(Math.abs(actual[i] - expected[i]) <= bound, `${what} [${i}]: ${actual[i]} instead of ${expected[i]}`);
  }
}

const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
assert.ok(names.length >= 20, 'the reference checkpoints are missing');

describe('reference checkpoints give what transformers gives', () => {
  for (const { name } of names) {
    test(name, async () => {
      const golden = JSON.parse(readFileSync(join(directory, name, 'golden.json'), 'utf8')) as Golden;
      const { model, checkpoint, close } = await openOnCpu(join(directory, name));
      try {
        if (checkpoint.spec.head.kind === 'logits') await checkDecoder();
        else await checkEncoder();
      } finally {
        await close();
      }

      async function checkDecoder(): Promise<void> {
        for (const [i, { input_ids: ids, positions, logits, greedy }] of golden.cases.entries()) {
          const whole = hand(ids, 0);
          for (const [j, position] of positions!.entries()) {
            const [row] = await stepLogits(model, [{ hand: whole, from: 0, to: position + 1 }]);
            assertClose(row, floats(logits![j]), `case ${i}, logits at position ${position}`);
            // Fed in chunks, and token by token at the end, the row keeps every bit.
            const half = Math.floor(position / 2);
            if (half > 0) await stepLogits(model, [{ hand: whole, from: 0, to: half }]);
            const [rest] = await stepLogits(model, [{ hand: whole, from: half, to: position + 1 }]);
            assert.ok(sameBits(rest, row), `case ${i}, position ${position} in two chunks`);
          }
          if (greedy) assert.deepEqual(await greedyTokens(model, ids, greedy.length), greedy, `case ${i}, greedy`);
        }
      }

      async function checkEncoder(): Promise<void> {
        const inputs = golden.cases.map(({ input_ids: tokens, token_type_ids: types }) => ({ tokens, types: types! }));
        const together = await encode(model, inputs);
        for (const [i, { embedding, scores }] of golden.cases.entries()) {
          const expected = embedding === undefined ? Float32Array.from(scores!) : floats(embedding);
          assertClose(together[i], expected, `case ${i}`);
          const [alone] = await encode(model, [inputs[i]]);
          assert.ok(sameBits(alone, together[i]), `case ${i} alone`);
        }
      }
    });
  }
});
