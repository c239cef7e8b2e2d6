import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bundled, encode, greedyTokens, hand, sameBits, stepLogits, type OpenedModel } from './on-cpu.ts';

interface ChatGolden {
  readonly cases: readonly {
    readonly input_ids: number[];
    readonly top10: readonly { readonly id: number; readonly logit: number }[];
    readonly greedy_ids: number[];
  }[];
  readonly logprob: { readonly input_ids: number[]; readonly total_logprob: number };
}
interface EmbedGolden {
  readonly cases: readonly { readonly input_ids: number[]; readonly embedding: number[] }[];
}
interface RerankGolden {
  readonly cases: readonly {
    readonly input_ids: number[];
    readonly token_type_ids: number[];
    readonly logit: number;
    readonly score: number;
  }[];
}

function golden<T>(name: string): T {
  return JSON.parse(readFileSync(join(bundled(name), 'golden.json'), 'utf8')) as T;
}

/** The reference's logits are printed with six digits: below 100, half a unit of the last one is at most 5e-5. */
export const PRINTED = 5e-5;

/** What the bundled models must come to on a device, by the reference's files. */
export interface GoldenBounds {
  /** Largest difference of a logit of tiny-chat. */
  readonly logits: number;
  /** Of a logit of tiny-rerank, and of its score. */
  readonly scores: number;
  /** Least cosine of a vector of tiny-embed. */
  readonly cosine: number;
}

type Opened = Pick<OpenedModel, 'model' | 'close'>;

/** Logits, greedy continuations past end tokens, and the log-probability of a text. */
export function checkChat(
  name: string,
  open: () => Promise<Opened>,
  bound: number,
  skip: string | false = false,
): void {
  describe(`tiny-chat ${name} meets the reference`, { skip }, () => {
    const { cases, logprob } = golden<ChatGolden>('tiny-chat');
    let opened: Opened;
    before(async () => (opened = await open()));
    after(() => opened.close());

    test('logits after the prompt', async () => {
      for (const { input_ids: ids, top10 } of cases) {
        const [logits] = await stepLogits(opened.model, [{ hand: hand(ids, 0), from: 0, to: ids.length }]);
        for (const { id, logit } of top10) {
          assert.ok(Math.abs(logits[id] - logit) <= bound, `token ${id}: ${logits[id]} instead of ${logit}`);
        }
      }
    });

    test('greedy continuations, past end tokens', async () => {
      for (const { input_ids: ids, greedy_ids: expected } of cases) {
        assert.deepEqual(await greedyTokens(opened.model, ids, expected.length), expected);
      }
    });

    test('the log-probability of a text', async () => {
      const { input_ids: ids, total_logprob: expected } = logprob;
      const text = hand(ids, 0);
      let total = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const [logits] = await stepLogits(opened.model, [{ hand: text, from: i, to: i + 1 }]);
        const maximum = logits.reduce((a, b) => Math.max(a, b));
        const sum = logits.reduce((s, logit) => s + Math.exp(logit - maximum), 0);
        total += logits[ids[i + 1]] - maximum - Math.log(sum);
      }
      // 199 terms, each off by at most the logits' bound; errors of both signs leave far less.
      assert.ok(Math.abs(total - expected) < 199 * bound * 0.1, `${total} instead of ${expected}`);
    });
  });
}

/** Vectors of tiny-embed, one at a time and all together, and scores of tiny-rerank. */
export function checkEncoders(
  name: string,
  open: (model: string) => Promise<Opened>,
  { scores, cosine }: Omit<GoldenBounds, 'logits'>,
  skip: string | false = false,
): void {
  describe(`tiny-embed ${name} meets the reference`, { skip }, () => {
    let opened: Opened;
    before(async () => (opened = await open('tiny-embed')));
    after(() => opened.close());

    test('vectors, one at a time and all together', async () => {
      const { cases } = golden<EmbedGolden>('tiny-embed');
      const inputs = cases.map(({ input_ids: tokens }) => ({ tokens }));
      const together = await encode(opened.model, inputs);
      for (const [i, { embedding }] of cases.entries()) {
        const [alone] = await encode(opened.model, [inputs[i]]);
        for (const vector of [alone, together[i]]) {
          const dot = vector.reduce((sum, x, j) => sum + x * embedding[j], 0);
          const length = Math.hypot(...vector) * Math.hypot(...embedding);
          assert.ok(dot / length > cosine, `cosine ${dot / length}`);
          assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5);
        }
        assert.ok(sameBits(alone, together[i]), `vector ${i} depends on its company`);
      }
    });
  });

  describe(`tiny-rerank ${name} meets the reference`, { skip }, () => {
    let opened: Opened;
    before(async () => (opened = await open('tiny-rerank')));
    after(() => opened.close());

    test('scores', async () => {
      const { cases } = golden<RerankGolden>('tiny-rerank');
      const inputs = cases.map(({ input_ids: tokens, token_type_ids: types }) => ({ tokens, types }));
      const logits = await encode(opened.model, inputs);
      for (const [i, { logit, score }] of cases.entries()) {
        assert.ok(Math.abs(logits[i][0] - logit) < scores, `logit ${logits[i][0]} instead of ${logit}`);
        assert.ok(Math.abs(1 / (1 + Math.exp(-logits[i][0])) - score) < scores);
      }
    });
  });
}
