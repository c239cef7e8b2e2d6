import assert from 'node:assert/strict';
import { Batch } from '../src/engine/batch.ts';
import { GREEDY } from '../src/engine/request.ts';
import { Sequence } from '../src/engine/sequence.ts';
import type { DeviceModel } from '../src/device/device.ts';
import { generateRequest } from './fake-model.ts';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { encode, sameBits } from './on-cpu.ts';

/** How a sequence may come to be computed. */
export type Way = 'chunks of 1' | 'chunks of 17' | 'beside others' | 'padded' | 'answers anew';

export interface ExactSteps {
  readonly vocabulary: number;
  /** Tokens of the prompt and of the answer. */
  readonly prompt: number;
  readonly answer: number;
  readonly ways: readonly Way[];
}

/** Rows [from, to) of a sequence in a step; an answer's or a prompt's. */
interface Part {
  readonly tokens: Int32Array;
  readonly pages: Int32Array;
  readonly from: number;
  readonly to: number;
  readonly answer: boolean;
}

/** Run one step; the logits of each part's last row. */
export async function runParts(model: DeviceModel, parts: readonly Part[]): Promise<Float32Array[]> {
  const batch = new Batch(model.capacity);
  batch.clear();
  for (const { tokens, pages, from, to, answer } of parts) {
    const tables = batch.pageTables.map(() => pages);
    batch.addSequence(tokens, undefined, from, to, tables, pages.length, -1, answer);
    new Sequence(generateRequest(0, [0], { sampling: GREEDY }), COMMAND, 1, 8, 0).addOutput(batch, batch.rows - 1);
  }
  const { values, width } = await model.step(batch);
  return parts.map((_, i) => values.slice(i * width, (i + 1) * width));
}

const COMMAND = generateRequest(0, [0], { sampling: GREEDY }).command as ConstructorParameters<typeof Sequence>[1];

/**
 * A sequence's logits behind its prompt and behind each token of its answer, computed at once and token by token, and then in
 * other ways: every bit must be the same.
 */
export async function exactSteps(model: DeviceModel, { vocabulary, prompt, answer, ways }: ExactSteps): Promise<void> {
  const length = prompt + answer;
  const count = Math.ceil(length / 16);
  const tokens = Int32Array.from({ length }, (_, i) => (i * i * 31 + 7 * i + 3) % vocabulary);
  let page = 0;
  const fresh = (): Int32Array => Int32Array.from({ length: count }, () => page++ % model.cache.groups[0].pages);
  const right: Float32Array[] = [];
  const check = (at: number, logits: Float32Array, way: string): void => {
    assert.ok(logits.every(Number.isFinite), `${way}: a logit behind token ${at} is not finite`);
    if (right[at] === undefined) right[at] = logits;
    else assert.ok(sameBits(right[at], logits), `${way}: other bits behind token ${at}`);
  };
  const whole = fresh();
  check(
    prompt - 1,
    (await runParts(model, [{ tokens, pages: whole, from: 0, to: prompt, answer: false }]))[0],
    'at once',
  );
  for (let at = prompt; at < length; at++) {
    const [logits] = await runParts(model, [{ tokens, pages: whole, from: at, to: at + 1, answer: true }]);
    check(at, logits, 'token by token');
  }
  const others = Array.from({ length: 5 }, (_, i) => {
    return { tokens: tokens.map((token) => (token + 11 * i + 1) % vocabulary), pages: fresh() };
  });
  for (const way of ways) {
    const pages = fresh();
    const chunk =
      way === 'chunks of 1'
        ? 1
        : way === 'chunks of 17'
          ? 17
          : way === 'beside others'
            ? Math.floor(model.capacity.rows / 8)
            : prompt;
    for (let from = 0; from < prompt; from += chunk) {
      const to = Math.min(prompt, from + chunk);
      const own = { tokens, pages, from, to, answer: false };
      const beside =
        way === 'beside others'
          ? others.map((other) => ({ ...other, from, to: Math.max(from + 1, to - 3), answer: false }))
          : [];
      const logits = await runParts(model, [...beside, own]);
      if (to === prompt) check(prompt - 1, logits.at(-1)!, way);
    }
    const step = way === 'answers anew' ? 7 : 1;
    for (let from = prompt; from < length; from += step) {
      const to = Math.min(length, from + step);
      const own = { tokens, pages, from, to, answer: true };
      const beside =
        way === 'beside others'
          ? others.map((other, i) => ({ ...other, from, to, answer: i % 2 === 0 }))
          : way === 'padded'
            ? others.slice(0, from % 5).map((other) => ({ ...other, from, to, answer: true }))
            : [];
      const logits = await runParts(model, [...beside, own]);
      check(to - 1, logits.at(-1)!, way);
    }
  }
}

/** What `outputsOf` asks for: 18 tokens of a prompt, and one of its answer. */
export const PROMPT: Int32Array = Int32Array.of(
  5,
  90,
  40,
  33,
  17,
  100,
  81,
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
);

/** Vectors of two sequences, or logits behind a prompt and behind a token of its answer. */
export async function outputsOf(model: DeviceModel, { spec }: Checkpoint): Promise<Float32Array[]> {
  if (spec.head.kind !== 'logits') {
    const types = spec.embedding.types > 1 ? { types: [0, 1, 1] } : {};
    return encode(model, [{ tokens: [...PROMPT] }, { tokens: [7, 8, 9], ...types }]);
  }
  const pages = Int32Array.of(3, 4);
  const prompt = { tokens: PROMPT, pages, from: 0, to: 18, answer: false };
  const [first] = await runParts(model, [prompt]);
  const [second] = await runParts(model, [{ ...prompt, from: 18, to: 19, answer: true }]);
  return [first, second];
}

/** Largest difference in any of the results, by the largest magnitude. */
export function apart(got: readonly Float32Array[], right: readonly Float32Array[]): number {
  const magnitude = right.flatMap((values) => [...values].map(Math.abs));
  const differences = got.flatMap((values, i) => {
    assert.equal(values.length, right[i].length);
    return [...values].map((value, at) => Math.abs(value - right[i][at]));
  });
  return Math.max(...differences) / Math.max(...magnitude);
}
