import { todo } from './support/todo.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import { columnsRefused, LANES, lanesOf, rowBlocks, rowPlan, THREADS, vectorOf, WAVES } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule } from './spec.ts';

const BOUND = bound(
  SUM_DEPTH + 2 * APPROXIMATION.ex2 + APPROXIMATION.div + 192,
  'the sum is a tree of positive terms; exponents up to 2^6 below the largest are rounded in units of their size',
);

/** Softmax of rows of scale * x: the row stays in registers, its largest element is subtracted first. */
const softmax: KernelModule = defineKernel({
  name: 'softmax',
  summary: 'y = exp(scale * x - max) / sum(exp(scale * x - max))',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: { type: ['bf16', 'f16', 'f32'] },
  tuning: { lanes: LANES, threads: THREADS, waves: WAVES },
  refuse: ({ dims: { columns }, options: { type }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes),
  choose: ({ columns }, { type }) => ({ lanes: lanesOf(columns, vectorOf(columns, [type])), threads: 128, waves: 0 }),
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns], normal(3)),
    y: output(type, [rows, columns], BOUND),
    scale: scalar('f32', 0.75),
    rows: scalar('i32', rows),
  }),
  trace: (s) => todo(s),
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning.lanes, tuning.threads), tuning.waves, device),
  reference: ({ x, scale }, { rows, columns }) => {
    const y = x.map((v) => v * scale);
    for (let row = 0; row < rows; row++) {
      const own = y.subarray(row * columns, (row + 1) * columns);
      const largest = own.reduce((most, v) => Math.max(most, v), -Infinity);
      own.forEach((v, i) => (own[i] = Math.exp(v - largest)));
      const sum = own.reduce((total, v) => total + v, 0);
      own.forEach((v, i) => (own[i] = v / sum));
    }
    return { y };
  },
  roofline: ({ rows, columns }, { type }) => ({ bytes: bytesOf(type, 2 * rows * columns), flops: 5 * rows * columns }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 1000 }, options: { type: 'f32' } },
    { dims: { rows: 3, columns: 257 } },
    { dims: { rows: 2, columns: 8192 }, options: { type: 'f16' } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
  ],
});

export default softmax;
