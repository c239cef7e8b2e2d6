import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { LoadOptions } from '../src/device/device.ts';
import { bundled, encode, hand, openOnCpu, sameBits, stepLogits } from './on-cpu.ts';

interface Cases {
  readonly cases: readonly { readonly input_ids: number[]; readonly token_type_ids?: number[] }[];
  readonly logprob?: { readonly input_ids: number[] };
}

function idsOf(name: string): number[][] {
  const golden = JSON.parse(readFileSync(join(bundled(name), 'golden.json'), 'utf8')) as Cases;
  return [...golden.cases.map(({ input_ids: ids }) => ids), ...(golden.logprob ? [golden.logprob.input_ids] : [])];
}

const modes: readonly { name: string; load: Partial<LoadOptions> }[] = [
  { name: 'bfloat16 weights', load: {} },
  { name: 'float32 weights', load: { dtype: 'f32' } },
  { name: 'int8 weights', load: { quantize: 'int8' } },
  { name: 'int4 weights', load: { quantize: 'int4' } },
  { name: 'bfloat16 keys and values', load: { cacheDtype: 'bf16' } },
];

for (const { name, load } of modes) {
  describe(`tiny-chat with ${name}: the same bits`, async () => {
    const one = await openOnCpu(bundled('tiny-chat'), load, 1);
    const two = await openOnCpu(bundled('tiny-chat'), load, 2);
    after(async () => {
      await one.close();
      await two.close();
    });
    const prompts = idsOf('tiny-chat');
    // One after the other: a result lives until the next step.
    const alone: Float32Array[] = [];
    for (const ids of prompts) alone.push(await whole(ids));

    async function whole(ids: number[]): Promise<Float32Array> {
      return (await stepLogits(one.model, [{ hand: hand(ids, 0), from: 0, to: ids.length }]))[0];
    }

    test('with one thread and with two', async () => {
      for (const [i, ids] of prompts.entries()) {
        const [logits] = await stepLogits(two.model, [{ hand: hand(ids, 3), from: 0, to: ids.length }]);
        assert.ok(sameBits(logits, alone[i]), `prompt ${i}`);
      }
    });

    test('alone and in a batch', async () => {
      let page = 0;
      const parts = prompts.map((ids) => {
        const part = { hand: hand(ids, page), from: 0, to: ids.length };
        page += part.hand.pages.length;
        return part;
      });
      const together = await stepLogits(two.model, parts);
      together.forEach((logits, i) => assert.ok(sameBits(logits, alone[i]), `prompt ${i}`));
    });

    test('whole and in chunks of any size, down to single tokens', async () => {
      const sizes = [2, 3, 7, 16, 50];
      for (const [i, ids] of prompts.entries()) {
        // Single tokens of every prompt, the rest by turns: each length is cut in its own way.
        for (const size of [1, sizes[i % sizes.length], sizes[(i + 2) % sizes.length]]) {
          const text = hand(ids, 5);
          let last: Float32Array | undefined;
          for (let from = 0; from < ids.length; from += size) {
            const to = Math.min(from + size, ids.length);
            [last] = await stepLogits(two.model, [{ hand: text, from, to }]);
          }
          assert.ok(sameBits(last!, alone[i]), `prompt ${i} in chunks of ${size}`);
        }
      }
    });

    test('one token of each beside a long prompt', async () => {
      let page = 0;
      const hands = prompts.map((ids) => {
        const h = hand(ids, page);
        page += h.pages.length;
        return h;
      });
      const long = hands.length - 1;
      const beginnings = hands.slice(0, long).map((h) => ({ hand: h, from: 0, to: h.tokens.length - 1 }));
      await stepLogits(two.model, beginnings);
      const mixed = hands.map((h, i) => ({ hand: h, from: i === long ? 0 : h.tokens.length - 1, to: h.tokens.length }));
      const logits = await stepLogits(two.model, mixed);
      logits.forEach((row, i) => assert.ok(sameBits(row, alone[i]), `prompt ${i}`));
    });
  });
}

for (const name of ['tiny-embed', 'tiny-rerank']) {
  describe(`${name}: the same bits`, async () => {
    const one = await openOnCpu(bundled(name), {}, 1);
    const two = await openOnCpu(bundled(name), {}, 2);
    after(async () => {
      await one.close();
      await two.close();
    });
    test('alone, in a batch, in another order, with one thread and with two', async () => {
      const inputs = idsOf(name).map((tokens) => ({ tokens }));
      const together = await encode(two.model, inputs);
      const reversed = (await encode(two.model, inputs.toReversed())).toReversed();
      for (const [i, input] of inputs.entries()) {
        const [alone] = await encode(one.model, [input]);
        assert.ok(sameBits(alone, together[i]) && sameBits(alone, reversed[i]), `input ${i}`);
      }
    });
  });
}
