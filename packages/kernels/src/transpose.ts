import { todo } from './support/todo.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, scalar, type KernelModule } from './spec.ts';

/** The transpose of a matrix. Tiles go through shared memory, so that reads and writes both run along rows. */
const transpose: KernelModule = defineKernel({
  name: 'transpose',
  summary: 'y[c][r] = x[r][c]',
  dims: { rows: 'rows of x', columns: 'columns of x' },
  options: { type: ['bf16', 'f16', 'f32'] },
  tuning: { tile: [64, 32] },
  choose: () => ({ tile: 64 }),
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns]),
    y: output(type, [columns, rows]),
    rows: scalar('i32', rows),
    columns: scalar('i32', columns),
  }),
  trace: (s) => todo(s),
  grid: ({ dims: { rows, columns }, tuning: { tile } }) => [Math.ceil(columns / tile), Math.ceil(rows / tile), 1],
  reference: ({ x }, { rows, columns }) => ({
    y: Float64Array.from({ length: x.length }, (_, at) => x[(at % rows) * columns + Math.floor(at / rows)]),
  }),
  roofline: ({ rows, columns }, { type }) => ({ bytes: bytesOf(type, 2 * rows * columns), flops: 0 }),
  cases: [
    { dims: { rows: 64, columns: 128 } },
    { dims: { rows: 1, columns: 257 } },
    { dims: { rows: 131, columns: 67 }, options: { type: 'f32' } },
    { dims: { rows: 8192, columns: 8192 }, large: true },
  ],
});

export default transpose;
