import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { bundled, hand, openOnCpu, stepLogits } from './on-cpu.ts';

interface Golden {
  readonly cases: readonly {
    readonly input_ids: number[];
    readonly top10: readonly { readonly id: number; readonly logit: number }[];
    readonly greedy_ids: number[];
  }[];
  readonly logprob: { readonly input_ids: number[]; readonly total_logprob: number };
}
const { cases, logprob } = JSON.parse(readFileSync(join(bundled('tiny-chat'), 'golden.json'), 'utf8')) as Golden;

/*
 * Bounds: about twice what the roundings of the weights leave in this model, whose ten highest logits span 5 to 14.
 * `perToken`: nats of log-probability that a text of 200 tokens may lose or gain a token.
 */
const bounds = {
  int8: { mean: 0.02, most: 0.08, perToken: 0.002 },
  int4: { mean: 0.4, most: 1.4, perToken: 0.035 },
} as const;

for (const quantize of ['int8', 'int4'] as const) {
  const bound = bounds[quantize];
  describe(`tiny-chat with ${quantize} weights beside the float32 reference`, async () => {
    const { model, close } = await openOnCpu(bundled('tiny-chat'), { quantize });
    after(close);

    test('the logits after the prompts', async () => {
      const errors: number[] = [];
      for (const { input_ids: ids, top10, greedy_ids: greedy } of cases) {
        const [logits] = await stepLogits(model, [{ hand: hand(ids, 0), from: 0, to: ids.length }]);
        for (const { id, logit } of top10) errors.push(Math.abs(logits[id] - logit));
        if (quantize === 'int8') assert.equal(logits.indexOf(Math.max(...logits)), greedy[0]);
      }
      const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
      assert.ok(mean < bound.mean, `mean error ${mean}`);
      assert.ok(Math.max(...errors) < bound.most, `largest error ${Math.max(...errors)}`);
    });

    test('the log-probability of a text', async () => {
      const { input_ids: ids, total_logprob: expected } = logprob;
      const text = hand(ids, 0);
      let total = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const [logits] = await stepLogits(model, [{ hand: text, from: i, to: i + 1 }]);
        const maximum = logits.reduce((a, b) => Math.max(a, b));
        const sum = logits.reduce((s, logit) => s + Math.exp(logit - maximum), 0);
        total += logits[ids[i + 1]] - maximum - Math.log(sum);
      }
      const perToken = Math.abs(total - expected) / (ids.length - 1);
      assert.ok(perToken < bound.perToken, `${total} instead of ${expected}: ${perToken} a token`);
    });
  });
}
