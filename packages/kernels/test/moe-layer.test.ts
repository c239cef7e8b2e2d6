import assert from 'node:assert/strict';
import { test } from 'node:test';
import embedding from '../src/embedding.ts';
import linearGrouped from '../src/linear_grouped.ts';
import linearGroupedSmall from '../src/linear_grouped_small.ts';
import moeCombine from '../src/moe_combine.ts';
import moeSort from '../src/moe_sort.ts';
import type { KernelModule } from '../src/spec.ts';
import { decode } from '../src/support/storage.ts';
import { runCase } from './support.ts';

/** A layer of experts from its kernels: sort, gather, two grouped products, combine. */

const [EXPERTS, CHOSEN, WIDTH, HIDDEN] = [4, 2, 64, 64];

type Bytes = Readonly<Record<string, Uint8Array>>;

/** What the tokens of `inputs` get. */
async function layer(inputs: Bytes, weights: Bytes, tokens: number, product: KernelModule): Promise<Uint8Array> {
  const rows = tokens * CHOSEN;
  const sorted = await runCase(moeSort, { dims: { tokens, chosen: CHOSEN, experts: EXPERTS } }, { ids: inputs.ids });
  const gathered = await runCase(
    embedding,
    { dims: { tokens: rows, columns: WIDTH, vocabulary: tokens, positions: 1 } },
    { ids: sorted.token, table: inputs.x },
  );
  const { groups } = sorted;
  const up = await runCase(
    product,
    { dims: { rows, columns: 2 * HIDDEN, depth: WIDTH, experts: EXPERTS }, options: { gate: 'silu' } },
    { x: gathered.y, w: weights.up, groups },
  );
  const down = await runCase(
    product,
    { dims: { rows, columns: WIDTH, depth: HIDDEN, experts: EXPERTS } },
    { x: up.y, w: weights.down, groups },
  );
  const combined = await runCase(
    moeCombine,
    { dims: { tokens, chosen: CHOSEN, columns: WIDTH }, options: { residual: true } },
    { h: down.y, row: sorted.row, weight: inputs.weight, residual: inputs.x },
  );
  return combined.y;
}

test('a token has the same bits alone as among others, by both kernels, and those that it should', async () => {
  const tokens = 5;
  const { x, weight } = await filled(tokens);
  const ids = new Uint8Array(Int32Array.from([3, 0, 0, 1, 3, 1, 0, 3, 1, 0]).buffer);
  const weights = {
    up: (await runCase(linearGroupedSmall, { dims: { rows: 2, columns: 128, depth: 64, experts: EXPERTS } })).w,
    down: (await runCase(linearGroupedSmall, { dims: { rows: 2, columns: 64, depth: 64, experts: EXPERTS } })).w,
  };
  const whole = await layer({ x, ids, weight }, weights, tokens, linearGrouped);
  const part = (all: Uint8Array, token: number): Uint8Array => {
    const length = all.length / tokens;
    return all.slice(token * length, (token + 1) * length);
  };
  for (const token of [0, 3]) {
    const own = { x: part(x, token), ids: part(ids, token), weight: part(weight, token) };
    assert.deepEqual(await layer(own, weights, 1, linearGroupedSmall), part(whole, token), `token ${token}`);
  }
  const expected = reference({ x, ids, weight }, weights, tokens);
  for (const [i, value] of decode('bf16', whole).entries()) {
    // Three roundings to bf16 of numbers of about one.
    assert.ok(
      Math.abs(value - expected[i]) <= 0.03 * (1 + Math.abs(expected[i])),
      `element ${i}: ${value}, ${expected[i]}`,
    );
  }
});

async function filled(tokens: number): Promise<{ x: Uint8Array; weight: Uint8Array }> {
  const dims = { tokens, chosen: CHOSEN, columns: WIDTH };
  const { residual, weight } = await runCase(moeCombine, { dims, options: { residual: true } });
  return { x: residual, weight };
}

/** The layer in float64. */
function reference(inputs: Bytes, weights: Bytes, tokens: number): Float64Array {
  const [x, up, down] = [inputs.x, weights.up, weights.down].map((bytes) => decode('bf16', bytes));
  const [ids, weight] = [decode('i32', inputs.ids), decode('f32', inputs.weight)];
  const y = x.slice();
  const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
  for (let token = 0; token < tokens; token++) {
    const own = x.subarray(token * WIDTH, (token + 1) * WIDTH);
    for (let i = 0; i < CHOSEN; i++) {
      const expert = ids[token * CHOSEN + i];
      const row = (n: number): Float64Array => up.subarray((expert * 2 * HIDDEN + n) * WIDTH).subarray(0, WIDTH);
      const hidden = Float64Array.from({ length: HIDDEN }, (_none, n) => {
        // Eight gates, then their eight values.
        const first = Math.floor(n / 8) * 16 + (n % 8);
        const gate = dot(row(first), own);
        return (gate / (1 + Math.exp(-gate))) * dot(row(first + 8), own);
      });
      for (let n = 0; n < WIDTH; n++) {
        const line = down.subarray((expert * WIDTH + n) * HIDDEN).subarray(0, HIDDEN);
        y[token * WIDTH + n] += weight[token * CHOSEN + i] * dot(line, hidden);
      }
    }
  }
  return y;
}
