import { ex2, f32, max, min, rcp, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { add, inside, loadRow, reduceRow, rowPlace, rowsOf, storeRow, sum } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import { columnsRefused, LANES, lanesOf, rowBlocks, rowPlan, THREADS, vectorOf, WAVES } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const BOUND = bound(
  SUM_DEPTH + 2 * APPROXIMATION.ex2 + APPROXIMATION.div + 192,
  'the sum is a tree of positive terms; exponents up to 2^6 below the largest are rounded in units of their size',
);

const TUNING = { lanes: LANES, threads: THREADS, waves: WAVES } as const;
const OPTIONS = { type: ['bf16', 'f16', 'f32'] } as const;

/** Softmax of rows of scale * x: the row stays in registers, its largest element is subtracted first. */
const softmax: KernelModule = defineKernel({
  name: 'softmax',
  summary: 'y = exp(scale * x - max) / sum(exp(scale * x - max))',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, options: { type }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes),
  choose: ({ columns }, { type }) => ({ lanes: lanesOf(columns, vectorOf(columns, [type])), threads: 256, waves: 0 }),
  tables: { order: ['lanes'], key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns], normal(3)),
    y: output(type, [rows, columns], BOUND),
    scale: scalar('f32', 0.75),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning), device),
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

interface Tensors {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly scale: f32;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const plan = rowPlan(dims.columns, vectorOf(dims.columns, [options.type]), tuning);
  return traceKernel('softmax', softmax.args(dims, options), plan.threads, (t: Tensors, release) => {
    'use gpu';
    const place = rowPlace(plan);
    for (const first of rowsOf(t.rows, plan)) {
      const live = first + place.sub < t.rows;
      const row = min(first + place.sub, t.rows - 1);
      const factor = t.scale * Math.LOG2E;
      const x = loadRow(t.x(row, _), plan, place).map((v) => v.to(f32).map((e) => e * factor));
      release();

      let largest = f32(-Infinity);
      // What stands for elements beyond the row's end are elements of the row: the maximum is the same.
      for (const v of x) for (const e of v) largest = max(largest, e);
      const top = reduceRow(largest, plan, place, max);
      const powers = x.map((v) => v.map((e) => ex2(e - top)));
      let own = f32(0);
      for (let turn = 0; turn < plan.turns; turn++) own += inside(turn, plan, place) ? sum(powers[turn]) : f32(0);
      const inverse = rcp(reduceRow(own, plan, place, add));
      storeRow(
        t.y(row, _),
        powers.map((v) => v.map((e) => e * inverse).to(t.y.type)),
        plan,
        place,
        live,
      );
    }
  });
}
