import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawToken, topTokens, type DrawParams, type LogitRow } from '../src/sampling/draw.ts';
import { uniform } from '../src/sampling/philox.ts';

/** A row over an ordinary array, with the plainest possible scan. */
function rowOf(values: readonly number[]): LogitRow {
  const source = Float32Array.from(values);
  const tokens = new Int32Array(values.length);
  const logits = new Float32Array(values.length);
  const collect = (threshold: number): number => {
    let count = 0;
    source.forEach((logit, token) => {
      if (logit < threshold) return;
      tokens[count] = token;
      logits[count++] = logit;
    });
    return count;
  };
  return { vocabSize: values.length, maximum: Math.max(...source), collect, tokens, logits };
}

/** The definition, by sorting everything: which tokens may be drawn, with their probabilities. */
function allowed(values: readonly number[], p: Omit<DrawParams, 'seed' | 'position'>): Map<number, number> {
  const logits = [...Float32Array.from(values)];
  const maximum = Math.max(...logits);
  let set = logits
    .map((logit, token) => ({ token, logit, weight: Math.exp((logit - maximum) / p.temperature) }))
    .sort((a, b) => b.logit - a.logit || a.token - b.token);
  if (p.topK > 0) set = set.slice(0, p.topK);
  const mass = set.reduce((sum, { weight }) => sum + weight, 0);
  let sum = 0;
  set = set.filter(({ weight }, i) => {
    const keep = p.topP >= 1 || i === 0 || sum < p.topP * mass;
    sum += weight;
    return keep;
  });
  set = set.filter(({ weight }) => weight >= p.minP);
  const total = set.reduce((s, { weight }) => s + weight, 0);
  return new Map(set.sort((a, b) => a.token - b.token).map(({ token, weight }) => [token, weight / total]));
}

const neutral = { temperature: 1, topK: 0, topP: 1, minP: 0 };

function randomLogits(size: number, seed: number): number[] {
  // Some ties on purpose: values are rounded to halves.
  return Array.from({ length: size }, (_, i) => Math.round((uniform(seed, i) * 16 - 8) * 2) / 2);
}

test('a draw is where the definition puts it, for random logits and parameters', () => {
  for (let round = 0; round < 400; round++) {
    const u = (i: number): number => uniform(round, 1_000_000 + i);
    const logits = randomLogits(1 + Math.floor(u(0) * 60), round);
    const params = {
      temperature: 0.2 + 1.8 * u(1),
      topK: u(2) < 0.5 ? 0 : 1 + Math.floor(u(3) * 20),
      topP: u(4) < 0.5 ? 1 : 0.05 + 0.9 * u(5),
      minP: u(6) < 0.6 ? 0 : 0.3 * u(7),
    };
    const set = allowed(logits, params);
    for (let position = 0; position < 5; position++) {
      const target = uniform(round, position);
      let sum = 0;
      let expected = -1;
      for (const [token, probability] of set) {
        sum += probability;
        expected = token;
        if (sum > target) break;
      }
      assert.equal(drawToken(rowOf(logits), { ...params, seed: round, position }), expected, `round ${round}`);
    }
  }
});

test('frequencies follow the distribution', () => {
  const logits = [0, 1, 2, -1, 0.5];
  const probabilities = allowed(logits, neutral);
  const counts = new Array<number>(logits.length).fill(0);
  const draws = 20000;
  for (let position = 0; position < draws; position++) {
    counts[drawToken(rowOf(logits), { ...neutral, seed: 9, position })]++;
  }
  for (const [token, p] of probabilities) {
    const deviation = Math.abs(counts[token] / draws - p) / Math.sqrt((p * (1 - p)) / draws);
    assert.ok(deviation < 4.5, `token ${token}: ${deviation} standard deviations`);
  }
});

test('ties at the edge of top-k go to the smaller ids', () => {
  const logits = [1, 3, 1, 1, 3];
  for (let position = 0; position < 200; position++) {
    const token = drawToken(rowOf(logits), { ...neutral, topK: 3, seed: 1, position });
    assert.ok([0, 1, 4].includes(token), `token ${token}`);
  }
});

test('top tokens come most likely first, ties by id, and never more than there are', () => {
  const tokens = new Int32Array(8);
  const logits = new Float32Array(8);
  assert.equal(topTokens(rowOf([1, 3, -50, 1, 3]), 4, tokens, logits), 4);
  assert.deepEqual([...tokens.subarray(0, 4)], [1, 4, 0, 3]);
  assert.equal(topTokens(rowOf([1, 3, -50, 1, 3]), 8, tokens, logits), 5);
  assert.deepEqual([...tokens.subarray(0, 5)], [1, 4, 0, 3, 2]);
  assert.equal(topTokens(rowOf([1, 2]), 0, tokens, logits), 0);
});
