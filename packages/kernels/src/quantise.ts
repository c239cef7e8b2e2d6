import { f32, min, _, type Fragment, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { groupsOf } from './support/linear-fp8.ts';
import { groupsRefused, quantised } from './support/quantise.ts';
import { quantisedReference, scalesOutput } from './support/quantise-reference.ts';
import { saturated } from './support/reference.ts';
import { bound } from './support/rounding.ts';
import { columnsRefused, LANES, lanesOf, rowBlocks, rowPlan, THREADS, vectorOf, WAVES } from './support/row-plan.ts';
import { loadRow, rowPlace, rowsOf, storeRow } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, normal, output, scalar, values, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = { scales: ['group', 'row', 'tensor'], type: ['bf16', 'f16', 'f32'] } as const;
const TUNING = { lanes: LANES, threads: THREADS, waves: WAVES } as const;

/**
 * Rows as e4m3 with scales that follow from the values: the largest magnitude of a group of 128 elements, or of a row,
 * becomes 448. What `linear_fp8` takes as x and xScale: scales of groups as [groups, pitch], of rows as [rows]. Rows of weights
 * become those of scales `row`, too. Their bits depend on the row alone. `tensor`: by the one scale that is given (static
 * quantisation), which each row then has as its own in `scales`; beyond 448 it is 448.
 */
const quantise: KernelModule = defineKernel({
  name: 'quantise',
  summary: 'y = e4m3 of x / scale, scale = max|x| / 448 of each 128 elements or of each row, or given',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, options: { scales, type }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes) ??
    (scales === 'group' ? groupsRefused(columns, lanes * vectorOf(columns, [type])) : undefined),
  choose: ({ columns }, { type }) => ({ lanes: lanesOf(columns, vectorOf(columns, [type])), threads: 256, waves: 0 }),
  tables: { order: ['lanes'], key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { scales, type }) => ({
    x: input(type, [rows, columns], normal(3)),
    // So small that some elements are beyond e4m3.
    ...(scales === 'tensor' ? { scale: input('f32', [1], values([0.02])) } : {}),
    y: output('e4m3', [rows, columns], bound(8, 'the scale, its inverse and the product are rounded')),
    ...(scales === 'tensor'
      ? { scales: output('f32', [rows], bound(0, 'as it is given')) }
      : scalesOutput(`e4m3_${scales}`, rows, columns)),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning), device),
  reference: ({ x, scale }, { rows, columns }, options) => {
    if (options.scales === 'tensor') {
      const [own] = scale!;
      return { y: x.map((value) => saturated(value / own)), scales: new Float64Array(rows).fill(own) };
    }
    const quantised = quantisedReference(x, rows, columns, options.scales);
    return { y: quantised.values, scales: quantised.scales };
  },
  roofline: ({ rows, columns }, { scales, type }) => ({
    bytes:
      bytesOf(type, rows * columns) +
      bytesOf('e4m3', rows * columns) +
      bytesOf('f32', rows * (scales === 'group' ? groupsOf(columns) : 1)),
    flops: 2 * rows * columns,
  }),
  cases: [
    { dims: { rows: 3, columns: 256 } },
    { dims: { rows: 5, columns: 128 }, options: { type: 'f32' } },
    { dims: { rows: 6, columns: 4096 }, options: { type: 'f16' } },
    { dims: { rows: 7, columns: 200 }, options: { scales: 'row' } },
    { dims: { rows: 2, columns: 14336 }, options: { scales: 'row', type: 'bf16' } },
    { dims: { rows: 5, columns: 96 }, options: { scales: 'tensor' } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
    { dims: { rows: 16384, columns: 4096 }, options: { scales: 'row' }, large: true },
  ],
});

export default quantise;

interface Tensors {
  readonly x: Tensor;
  readonly scale?: Tensor;
  readonly y: Tensor;
  readonly scales: Tensor;
  readonly pitch?: i32;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const plan = rowPlan(dims.columns, vectorOf(dims.columns, [options.type]), tuning);
  return traceKernel('quantise', quantise.args(dims, options), plan.threads, (t: Tensors, release) => {
    'use gpu';
    const place = rowPlace(plan);
    for (const first of rowsOf(t.rows, plan)) {
      const live = first + place.sub < t.rows;
      const row = min(first + place.sub, t.rows - 1);
      const x = loadRow(t.x(row, _), plan, place);
      release();
      const y =
        options.scales === 'tensor'
          ? divided(x, f32(t.scale![0]), t.scales, row, live && place.lane === 0)
          : quantised(x, t.scales, `e4m3_${options.scales}`, row, t.pitch, plan, place, live);
      storeRow(
        t.y(row, _),
        y.map((v) => v.to(t.y.type)),
        plan,
        place,
        live,
      );
    }
  });
}

/** A row's vectors by a scale that is given, which the row gets as its own, where `first`. */
function divided(x: readonly Fragment[], scale: f32, scales: Tensor, row: i32, first: boolean): Fragment[] {
  'use gpu';
  if (first) scales[row] = scale;
  return x.map((v) => v.map((e) => f32(e) / scale));
}
