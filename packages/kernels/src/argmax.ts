import { todo } from './support/todo.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, type KernelModule } from './spec.ts';

/** The place of each row's largest element; the first of equals. NaN counts as less than everything. */
const argmax: KernelModule = defineKernel({
  name: 'argmax',
  summary: 'index[r] = first i with x[r][i] = max(x[r])',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: { type: ['bf16', 'f16', 'f32'] },
  tuning: { threads: [128, 256, 512, 1024] },
  choose: ({ columns }, { type }) => {
    const vectors = columns / vectorOf(columns, [type]);
    return { threads: vectors <= 512 ? 128 : vectors <= 2048 ? 256 : 1024 };
  },
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns]),
    index: output('i32', [rows]),
  }),
  trace: (s) => todo(s),
  grid: ({ dims: { rows } }) => [rows, 1, 1],
  reference: ({ x }, { rows, columns }) => ({
    index: Float64Array.from({ length: rows }, (_, row) => {
      const own = x.subarray(row * columns, (row + 1) * columns);
      return own.indexOf(own.reduce((most, v) => Math.max(most, v), -Infinity));
    }),
  }),
  roofline: ({ rows, columns }, { type }) => ({
    bytes: bytesOf(type, rows * columns) + 4 * rows,
    flops: rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 1000 } },
    { dims: { rows: 3, columns: 257 }, options: { type: 'f32' } },
    { dims: { rows: 2, columns: 50257 }, options: { type: 'f16' } },
    { dims: { rows: 64, columns: 151936 }, large: true },
  ],
});

export default argmax;
