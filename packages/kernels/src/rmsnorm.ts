import { f32, min, rcp, rsqrt, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import {
  add,
  inside,
  loadRow,
  reduceRow,
  rowPlace,
  rowsOf,
  storeRow,
  sumOfSquares,
  withResidual,
} from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { silu as deviceSilu } from './support/math.ts';
import { groupsRefused, quantised } from './support/quantise.ts';
import { quantisedReference, scalesOutput } from './support/quantise-reference.ts';
import { saturated, silu } from './support/reference.ts';
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
import { defineKernel, input, normal, output, scalar, values, type KernelModule, type Specialisation } from './spec.ts';

const BOUND = bound(
  SUM_DEPTH / 2 + APPROXIMATION.rsqrt + 2 * APPROXIMATION.ex2 + 8,
  'the mean of squares is a tree of additions of one sign, and its root halves its error; rsqrt and the gate are approximations',
);

const QUANTISED_BOUND = bound(2 * BOUND.roundings + 8, `${BOUND.why}; so does the largest, which the scale follows`);

const OPTIONS = {
  type: ['bf16', 'f16', 'f32'],
  weight: ['plain', 'plus_one', 'none'],
  residual: [false, true],
  /** Whether what was normalised, x + residual, is stored, too. */
  sum: [true, false],
  gate: [false, true],
  output: ['same', 'e4m3', 'e4m3_group', 'e4m3_row'],
} as const;
/** `early`: weights are on their way while the row is reduced, and take registers meanwhile. */
const TUNING = { lanes: LANES, threads: THREADS, waves: WAVES, early: [true, false] } as const;

/**
 * Root mean square normalisation of rows (Zhang and Sennrich 2019), with what models put around it.
 *
 * `residual`: h = x + residual, rounded to the rows' type as the sum alone would be, is what is normalised; `sum` gets
 * it. `weight`: `plain` w, `plus_one` 1 + w (Gemma), `none`. `gate`: times silu(gate) (Qwen3-Next, Mamba-2). `output`:
 * the rows' type, or e4m3 of y / scale with one scale for the tensor, or with scales that follow from y, as `quantise` makes
 * them: of each 128 elements ([groups, pitch]), or of each row.
 */
const rmsnorm: KernelModule = defineKernel({
  name: 'rmsnorm',
  summary:
    'y = x / sqrt(mean(x^2) + eps) * w; x + residual first, 1 + w or no w, times silu(gate), e4m3 of y / scale on demand',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, options: { type, output: kind }, tuning: { lanes } }) =>
    columnsRefused(columns, vectorOf(columns, [type]), lanes) ??
    (kind === 'e4m3_group' ? groupsRefused(columns, lanes * vectorOf(columns, [type])) : undefined),
  choose: ({ columns }, { type }) => {
    const vector = vectorOf(columns, [type]);
    const lanes = lanesOf(columns, vector);
    return { lanes, threads: 256, waves: 0, early: roomForWeights(columns, vector, lanes) };
  },
  tables: { order: ['lanes'], key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type, weight, residual, sum: keeps, gate, output: kind }) => ({
    x: input(type, [rows, columns]),
    ...(residual ? { residual: input(type, [rows, columns]) } : {}),
    ...(weight === 'none' ? {} : { weight: input(type, [columns], normal(0.3, weight === 'plain' ? 1 : 0)) }),
    ...(gate ? { gate: input(type, [rows, columns]) } : {}),
    ...(kind === 'e4m3' ? { scale: input('f32', [1], values([0.0625])) } : {}),
    ...(residual && keeps ? { sum: output(type, [rows, columns], bound(0, 'one addition, rounded once')) } : {}),
    y: output(kind === 'same' ? type : 'e4m3', [rows, columns], kind.startsWith('e4m3_') ? QUANTISED_BOUND : BOUND),
    ...scalesOutput(kind, rows, columns, QUANTISED_BOUND),
    eps: scalar('f32', 1e-6),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, options: { type }, tuning }, device) =>
    rowBlocks(rows, rowPlan(columns, vectorOf(columns, [type]), tuning), device),
  reference: ({ x, residual, weight, gate, scale, eps }, { rows, columns }, options) => {
    const h = x.map((v, i) => (residual ? v + residual[i] : v));
    const normalised = h.map((v) => round(options.type, v));
    const y = new Float64Array(x.length);
    for (let row = 0; row < rows; row++) {
      const own = normalised.subarray(row * columns, (row + 1) * columns);
      const r = 1 / Math.sqrt(own.reduce((sum, v) => sum + v * v, 0) / columns + eps);
      for (let i = 0; i < columns; i++) {
        const at = row * columns + i;
        const w = weight ? weight[i] + (options.weight === 'plus_one' ? 1 : 0) : 1;
        y[at] = own[i] * r * w * (gate ? silu(gate[at]) : 1);
        if (scale) y[at] = saturated(y[at] / scale[0]);
      }
    }
    if (options.output === 'same' || options.output === 'e4m3') return { y, sum: h };
    const quantised = quantisedReference(y, rows, columns, options.output === 'e4m3_group' ? 'group' : 'row');
    return { y: quantised.values, scales: quantised.scales, sum: h };
  },
  roofline: ({ rows, columns }, { type, weight, residual, sum: keeps, gate, output: kind }) => ({
    bytes:
      bytesOf(type, rows * columns * (1 + (residual ? (keeps ? 2 : 1) : 0) + (gate ? 1 : 0))) +
      bytesOf(kind === 'same' ? type : 'e4m3', rows * columns) +
      bytesOf(type, weight === 'none' ? 0 : columns),
    flops: rows * columns * (4 + (residual ? 1 : 0) + (gate ? 5 : 0)),
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 3, columns: 4096 }, options: { residual: true } },
    { dims: { rows: 5, columns: 200 }, options: { weight: 'plus_one', type: 'f16' } },
    { dims: { rows: 7, columns: 257 }, options: { weight: 'none', type: 'f32' } },
    { dims: { rows: 17, columns: 128 }, options: { gate: true } },
    { dims: { rows: 3, columns: 96 }, options: { residual: true, sum: false } },
    { dims: { rows: 4, columns: 1000 }, options: { residual: true, output: 'e4m3' } },
    { dims: { rows: 5, columns: 512 }, options: { output: 'e4m3_group', residual: true } },
    { dims: { rows: 3, columns: 4096 }, options: { output: 'e4m3_row', weight: 'plus_one' } },
    { dims: { rows: 2, columns: 32768 } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
    { dims: { rows: 16384, columns: 4096 }, options: { residual: true }, large: true },
    { dims: { rows: 16384, columns: 32768 }, large: true },
  ],
});

export default rmsnorm;

interface Tensors {
  readonly x: Tensor;
  readonly residual?: Tensor;
  readonly weight?: Tensor;
  readonly gate?: Tensor;
  readonly scale?: Tensor;
  readonly sum?: Tensor;
  readonly y: Tensor;
  readonly scales?: Tensor;
  readonly pitch?: i32;
  readonly eps: f32;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const plan = rowPlan(dims.columns, vectorOf(dims.columns, [options.type]), tuning);
  const body = (t: Tensors): void => {
    'use gpu';
    const place = rowPlace(plan);
    const loadWeight = () => t.weight && loadRow(t.weight, plan, place);
    const early = tuning.early && tuning.waves > 0 ? loadWeight() : undefined;
    const inverseScale = t.scale && rcp(t.scale[0]);
    for (const first of rowsOf(t.rows, plan)) {
      const live = first + place.sub < t.rows;
      const row = min(first + place.sub, t.rows - 1);
      const x = loadRow(t.x(row, _), plan, place);
      const residual = t.residual && loadRow(t.residual(row, _), plan, place);
      const gate = t.gate && loadRow(t.gate(row, _), plan, place);

      const soon = early ?? (tuning.early ? loadWeight() : undefined);
      const h = withResidual(x, residual);
      if (t.sum) storeRow(t.sum(row, _), h, plan, place, live);
      let squares = f32(0);
      for (let turn = 0; turn < plan.turns; turn++) {
        const own = sumOfSquares(h[turn]);
        squares += inside(turn, plan, place) ? own : f32(0);
      }
      const r = rsqrt(reduceRow(squares, plan, place, add) * (1 / dims.columns) + t.eps);

      const weight = soon ?? loadWeight();
      const y = h.map((v, turn) =>
        v.to(f32).map((e, i) => {
          'use gpu';
          let scaled = e * r;
          if (weight) scaled *= options.weight === 'plus_one' ? f32(weight[turn][i]) + 1 : f32(weight[turn][i]);
          if (gate) scaled *= deviceSilu(f32(gate[turn][i]));
          return inverseScale === undefined ? scaled : scaled * inverseScale;
        }),
      );
      const kept = quantised(y, t.scales, options.output, row, t.pitch, plan, place, live);
      storeRow(
        t.y(row, _),
        kept.map((v) => v.to(t.y.type)),
        plan,
        place,
        live,
      );
    }
  };
  return traceKernel('rmsnorm', rmsnorm.args(dims, options), plan.threads, body, { releases: true });
}
