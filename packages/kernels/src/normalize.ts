import { f32, min, rsqrt, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import { columnsRefused, LANES, lanesOf, rowBlocks, rowPlan, THREADS, vectorOf, WAVES } from './support/row-plan.ts';
import { add, inside, loadRow, reduceRow, rowPlace, rowsOf, storeRow, sumOfSquares } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = { type: ['f32', 'bf16', 'f16'] } as const;
const TUNING = { lanes: LANES, threads: THREADS, waves: WAVES } as const;

/** The least length that a row is divided by, as in PyTorch's `normalize`: rows of zeros stay zeros. */
const SHORTEST = 1e-12;

/**
 * Rows of Euclidean length 1, in float32: vectors of embedding models. A row is read whole before it is written, so that x
 * and y may be the same float32 tensor.
 */
const normalize: KernelModule = defineKernel({
  name: 'normalize',
  summary: 'y = x / max(sqrt(sum(x^2)), 1e-12), in float32',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, tuning: { lanes } }) => columnsRefused(columns, vectorOf(columns, ['f32']), lanes),
  choose: ({ columns }) => ({ lanes: lanesOf(columns, vectorOf(columns, ['f32'])), threads: 256, waves: 0 }),
  tables: { order: ['lanes'], key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns], normal(3)),
    y: output(
      'f32',
      [rows, columns],
      bound(SUM_DEPTH / 2 + APPROXIMATION.rsqrt + 4, 'a sum of squares, whose root halves its error, and rsqrt'),
    ),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, ['f32']), tuning), device),
  reference: ({ x }, { rows, columns }) => {
    const y = new Float64Array(x.length);
    for (let row = 0; row < rows; row++) {
      const own = x.subarray(row * columns, (row + 1) * columns);
      const length = Math.max(Math.sqrt(own.reduce((sum, v) => sum + v * v, 0)), SHORTEST);
      for (let i = 0; i < columns; i++) y[row * columns + i] = own[i] / length;
    }
    return { y };
  },
  roofline: ({ rows, columns }, { type }) => ({
    bytes: bytesOf(type, rows * columns) + bytesOf('f32', rows * columns),
    flops: 3 * rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 768 }, options: { type: 'bf16' } },
    { dims: { rows: 7, columns: 257 }, options: { type: 'f16' } },
    { dims: { rows: 2, columns: 4096 } },
    { dims: { rows: 1024, columns: 1024 }, large: true },
  ],
});

export default normalize;

interface Tensors {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  // Vectors of float32 whatever x is: a row's bits do not depend on the type of its numbers.
  const plan = rowPlan(dims.columns, vectorOf(dims.columns, ['f32']), tuning);
  return traceKernel('normalize', normalize.args(dims, options), plan.threads, (t: Tensors, release) => {
    'use gpu';
    const place = rowPlace(plan);
    for (const first of rowsOf(t.rows, plan)) {
      const live = first + place.sub < t.rows;
      const x = loadRow(t.x(min(first + place.sub, t.rows - 1), _), plan, place);
      release();
      let squares = f32(0);
      for (let turn = 0; turn < plan.turns; turn++) {
        squares += inside(turn, plan, place) ? sumOfSquares(x[turn]) : f32(0);
      }
      const factor = min(rsqrt(reduceRow(squares, plan, place, add)), f32(1 / SHORTEST));
      const y = x.map((v) => v.to(f32).map((e) => e * factor));
      storeRow(t.y(min(first + place.sub, t.rows - 1), _), y, plan, place, live);
    }
  });
}
