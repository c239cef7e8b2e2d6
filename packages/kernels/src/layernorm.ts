import { f32, fma, min, rsqrt, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import {
  add,
  inside,
  loadRow,
  reduceRow,
  rowPlace,
  rowsOf,
  storeRow,
  sum,
  sumOfSquares,
  withResidual,
} from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import {
  columnsRefused,
  LANES,
  lanesOf,
  roomForWeights,
  rowBlocks,
  rowPlan,
  THREADS,
  vectorOf,
  WAVES,
} from './support/row-plan.ts';
import { bytesOf, round } from './support/storage.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const BOUND = bound(
  SUM_DEPTH + APPROXIMATION.rsqrt + 8,
  'the mean is off by the depth of a tree of additions in units of the mean of |x|; the variance is computed from differences',
);

/** `early`: weights are on their way while the row is reduced, and take registers meanwhile. */
const TUNING = { lanes: LANES, threads: THREADS, waves: WAVES, early: [true, false] } as const;
/** Rows that a GPU has room for at one time. */
const FEW_ROWS = 1024;
const OPTIONS = {
  type: ['bf16', 'f16', 'f32'],
  bias: [true, false],
  residual: [false, true],
  /** Whether what was normalised, x + residual, is stored, too. */
  sum: [true, false],
} as const;

/**
 * Layer normalisation of rows (Ba, Kiros and Hinton 2016) with weight and bias. The row stays in registers: first its
 * mean, then the mean of the squared differences, as two trees of additions. `residual`: h = x + residual, rounded to the
 * rows' type as the sum alone would be, is what is normalised; `sum` gets it.
 */
const layernorm: KernelModule = defineKernel({
  name: 'layernorm',
  summary: 'y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias; x + residual first on demand',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, options: { type }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes),
  choose: ({ rows, columns }, { type }) => {
    const vector = vectorOf(columns, [type]);
    const lanes = lanesOf(columns, vector);
    // Few rows wait for their weights; with many, registers serve better for further rows on their way.
    const waits = rows < FEW_ROWS || columns <= lanes * vector;
    return { lanes, threads: 256, waves: 0, early: waits && roomForWeights(columns, vector, lanes) };
  },
  tables: { order: ['lanes'], key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type, bias, residual, sum: keeps }) => ({
    x: input(type, [rows, columns], normal(2, 0.5)),
    ...(residual ? { residual: input(type, [rows, columns]) } : {}),
    weight: input(type, [columns], normal(0.3, 1)),
    ...(bias ? { bias: input(type, [columns], normal(0.2)) } : {}),
    ...(residual && keeps ? { sum: output(type, [rows, columns], bound(0, 'one addition, rounded once')) } : {}),
    y: output(type, [rows, columns], BOUND),
    eps: scalar('f32', 1e-5),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning), device),
  reference: ({ x, residual, weight, bias, eps }, { rows, columns }, { type }) => {
    const h = x.map((v, i) => (residual ? v + residual[i] : v));
    const normalised = h.map((v) => round(type, v));
    const y = new Float64Array(x.length);
    const magnitude = new Float64Array(x.length);
    for (let row = 0; row < rows; row++) {
      const own = normalised.subarray(row * columns, (row + 1) * columns);
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
    return { y: { values: y, magnitude }, sum: h };
  },
  roofline: ({ rows, columns }, { type, bias, residual, sum: keeps }) => ({
    bytes: bytesOf(type, (2 + (residual ? (keeps ? 2 : 1) : 0)) * rows * columns + (bias ? 2 : 1) * columns),
    flops: 8 * rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 768 } },
    { dims: { rows: 3, columns: 1000 }, options: { bias: false } },
    { dims: { rows: 7, columns: 257 }, options: { type: 'f32', residual: true } },
    { dims: { rows: 3, columns: 768 }, options: { residual: true, sum: false } },
    { dims: { rows: 2, columns: 4096 }, options: { type: 'f16' } },
    { dims: { rows: 2, columns: 32768 } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
    { dims: { rows: 32768, columns: 768 }, options: { residual: true, sum: false }, large: true },
  ],
});

export default layernorm;

interface Tensors {
  readonly x: Tensor;
  readonly residual?: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor;
  readonly sum?: Tensor;
  readonly y: Tensor;
  readonly eps: f32;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const plan = rowPlan(dims.columns, vectorOf(dims.columns, [options.type]), tuning);
  const body = (t: Tensors): void => {
    'use gpu';
    const place = rowPlace(plan);
    const loadWeights = () => [loadRow(t.weight, plan, place), t.bias && loadRow(t.bias, plan, place)] as const;
    const kept = tuning.early && tuning.waves > 0 ? loadWeights() : undefined;
    for (const first of rowsOf(t.rows, plan)) {
      const live = first + place.sub < t.rows;
      const row = min(first + place.sub, t.rows - 1);
      const x = loadRow(t.x(row, _), plan, place);
      const residual = t.residual && loadRow(t.residual(row, _), plan, place);
      const soon = kept ?? (tuning.early ? loadWeights() : undefined);
      const h = withResidual(x, residual);
      if (t.sum) storeRow(t.sum(row, _), h, plan, place, live);

      let own = f32(0);
      for (let turn = 0; turn < plan.turns; turn++) own += inside(turn, plan, place) ? sum(h[turn]) : f32(0);
      const mean = reduceRow(own, plan, place, add) * (1 / dims.columns);
      let squares = f32(0);
      for (let turn = 0; turn < plan.turns; turn++) {
        squares += inside(turn, plan, place) ? sumOfSquares(h[turn].to(f32).map((e) => e - mean)) : f32(0);
      }
      const r = rsqrt(reduceRow(squares, plan, place, add) * (1 / dims.columns) + t.eps);

      const [weight, bias] = soon ?? loadWeights();
      const y = h.map((v, turn) =>
        v.to(f32).map((e, i) => {
          'use gpu';
          const scaled = (e - mean) * r;
          return bias ? fma(scaled, f32(weight[turn][i]), f32(bias[turn][i])) : scaled * f32(weight[turn][i]);
        }),
      );
      storeRow(
        t.y(row, _),
        y.map((v) => v.to(t.y.type)),
        plan,
        place,
        live,
      );
    }
  };
  return traceKernel('layernorm', layernorm.args(dims, options), plan.threads, body, { releases: true });
}
