import { bid, f32, fma, idiv, min, tid, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { vectorsOf } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, distinct, input, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = { threads: [128, 256], turns: [1, 2] } as const;
const OPTIONS = { type: ['bf16', 'f16', 'f32'], residual: [false, true] } as const;

/**
 * What a token's experts gave, by the token's weights: in float32, its choices in their order, then the residual. `row` is
 * `moe_sort`'s: which row of h is whose.
 */
const moeCombine: KernelModule = defineKernel({
  name: 'moe_combine',
  summary: 'y[t] = sum of weight[t][i] * h[row[t][i]] over the choices i, + residual[t]',
  dims: { tokens: 'tokens', chosen: 'experts of a token', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  choose: () => ({ threads: 128, turns: 1 }),
  tables: {
    key: ({ tokens, chosen, columns }, options) => ({ ...options, tokens: rowBucket(tokens), chosen, columns }),
  },
  args: ({ tokens, chosen, columns }, { type, residual }) => ({
    h: input(type, [tokens * chosen, columns]),
    row: input('i32', [tokens, chosen], distinct(tokens * chosen)),
    weight: input('f32', [tokens, chosen]),
    ...(residual ? { residual: input(type, [tokens, columns]) } : {}),
    y: output(type, [tokens, columns], bound(chosen + 1, 'each product and the residual are added with one rounding')),
    tokens: scalar('i32', tokens),
  }),
  trace: record,
  grid: ({ dims: { tokens, columns }, options: { type }, tuning: { threads, turns } }) => {
    const vectors = (tokens * columns) / vectorOf(columns, [type]);
    return [Math.ceil(vectors / (threads * turns)), 1, 1];
  },
  reference: ({ h, row, weight, residual }, { tokens, chosen, columns }) => {
    const y = { values: new Float64Array(tokens * columns), magnitude: new Float64Array(tokens * columns) };
    for (let at = 0; at < tokens * columns; at++) {
      const [token, column] = [Math.floor(at / columns), at % columns];
      const terms = Array.from({ length: chosen }, (_none, i) => {
        const choice = token * chosen + i;
        return weight[choice] * h[row[choice] * columns + column];
      });
      if (residual) terms.push(residual[at]);
      y.values[at] = terms.reduce((a, b) => a + b, 0);
      y.magnitude[at] = terms.reduce((a, b) => a + Math.abs(b), 0);
    }
    return { y };
  },
  roofline: ({ tokens, chosen, columns }, { type, residual }) => ({
    bytes: bytesOf(type, tokens * columns * (chosen + (residual ? 2 : 1))) + 8 * tokens * chosen,
    flops: 2 * tokens * chosen * columns,
  }),
  cases: [
    { dims: { tokens: 1, chosen: 8, columns: 64 } },
    { dims: { tokens: 7, chosen: 3, columns: 1000 }, options: { residual: true } },
    { dims: { tokens: 5, chosen: 2, columns: 257 }, options: { type: 'f32' } },
    { dims: { tokens: 4, chosen: 8, columns: 2048 }, options: { type: 'f16', residual: true } },
    { dims: { tokens: 4096, chosen: 8, columns: 2048 }, large: true },
  ],
});

export default moeCombine;

interface Tensors {
  readonly h: Tensor;
  readonly row: Tensor<i32>;
  readonly weight: Tensor<f32>;
  readonly residual?: Tensor;
  readonly y: Tensor;
  readonly tokens: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { columns, chosen } = dims;
  const { threads, turns } = tuning;
  const vector = vectorOf(columns, [options.type]);
  const perRow = columns / vector;
  return traceKernel('moe_combine', moeCombine.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const total = t.tokens * perRow;
    for (let turn = 0; turn < turns; turn++) {
      const index = (bid() * turns + turn) * threads + tid();
      const known = min(index, total - 1);
      const token = idiv(known, perRow);
      const at = known - token * perRow;
      // All rows are on their way before the first is needed.
      const terms = Array.from({ length: chosen }, (_none, i) => {
        'use gpu';
        const row = t.row(token, _)[i];
        return { weight: t.weight(token, _)[i], values: vectorsOf(t.h(row, _), vector)(_, at).load().to(f32) };
      });
      const residual = t.residual && vectorsOf(t.residual(token, _), vector)(_, at).load();
      const y = terms[0].values.map((first, e) => {
        'use gpu';
        let sum = first * terms[0].weight;
        for (let i = 1; i < chosen; i++) sum = fma(terms[i].values[e], terms[i].weight, sum);
        return residual ? sum + f32(residual[e]) : sum;
      });
      if (index < total) vectorsOf(t.y(token, _), vector)(_, at).store(y.to(t.y.type));
    }
  });
}
