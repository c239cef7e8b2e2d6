import { todo } from './support/todo.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import { columnsRefused, LANES, lanesOf, rowBlocks, rowPlan, THREADS, vectorOf, WAVES } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule } from './spec.ts';

const BOUND = bound(
  SUM_DEPTH + APPROXIMATION.rsqrt + 8,
  'the mean is off by the depth of a tree of additions in units of the mean of |x|; the variance is computed from differences',
);

/**
 * Layer normalisation of rows (Ba, Kiros and Hinton 2016) with weight and bias. The row stays in registers: first its
 * mean, then the mean of the squared differences, as two trees of additions.
 */
const layernorm: KernelModule = defineKernel({
  name: 'layernorm',
  summary: 'y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: { type: ['bf16', 'f16', 'f32'], bias: [true, false] },
  tuning: { lanes: LANES, threads: THREADS, waves: WAVES },
  refuse: ({ dims: { columns }, options: { type }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes),
  choose: ({ columns }, { type }) => ({ lanes: lanesOf(columns, vectorOf(columns, [type])), threads: 128, waves: 0 }),
  args: ({ rows, columns }, { type, bias }) => ({
    x: input(type, [rows, columns], normal(2, 0.5)),
    weight: input(type, [columns], normal(0.3, 1)),
    ...(bias ? { bias: input(type, [columns], normal(0.2)) } : {}),
    y: output(type, [rows, columns], BOUND),
    eps: scalar('f32', 1e-5),
    rows: scalar('i32', rows),
  }),
  trace: (s) => todo(s),
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning.lanes, tuning.threads), tuning.waves, device),
  reference: ({ x, weight, bias, eps }, { rows, columns }) => {
    const y = new Float64Array(x.length);
    const magnitude = new Float64Array(x.length);
    for (let row = 0; row < rows; row++) {
      const own = x.subarray(row * columns, (row + 1) * columns);
      const mean = own.reduce((sum, v) => sum + v, 0) / columns;
      const size = own.reduce((sum, v) => sum + Math.abs(v), 0) / columns;
      const variance = own.reduce((sum, v) => sum + (v - mean) ** 2, 0) / columns;
      const scale = 1 / Math.sqrt(variance + eps);
      for (let i = 0; i < columns; i++) {
        const at = row * columns + i;
        y[at] = (own[i] - mean) * scale * weight[i] + (bias?.[i] ?? 0);
        magnitude[at] = (Math.abs(own[i]) + size) * scale * Math.abs(weight[i]) + Math.abs(bias?.[i] ?? 0);
      }
    }
    return { y: { values: y, magnitude } };
  },
  roofline: ({ rows, columns }, { type, bias }) => ({
    bytes: bytesOf(type, 2 * rows * columns + (bias ? 2 : 1) * columns),
    flops: 8 * rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 768 } },
    { dims: { rows: 3, columns: 1000 }, options: { bias: false } },
    { dims: { rows: 7, columns: 257 }, options: { type: 'f32' } },
    { dims: { rows: 2, columns: 4096 }, options: { type: 'f16' } },
    { dims: { rows: 2, columns: 32768 } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
  ],
});

export default layernorm;
