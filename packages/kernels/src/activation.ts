import { bid, f32, gdim, idiv, max, min, range, rcp, tid, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import {
  gelu as deviceGelu,
  geluTanh as deviceGeluTanh,
  sigmoid as deviceSigmoid,
  silu as deviceSilu,
} from './support/math.ts';
import { groupsRefused, quantisedVector } from './support/quantise.ts';
import { quantisedReference, scalesOutput } from './support/quantise-reference.ts';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { gelu, geluTanh, saturated, silu, sigmoid } from './support/reference.ts';
import { bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import {
  defineKernel,
  input,
  normal,
  output,
  scalar,
  values,
  type Chosen,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

/**
 * The activations of feed-forward layers. All but `relu2` take a gate g and a value u of each output from a row of
 * twice as many elements: as two halves (all gates, then all values), or interleaved (g0, u0, g1, u1...).
 *
 * | kind | y |
 * | --- | --- |
 * | swiglu | g sigmoid(g) u |
 * | geglu_erf | g Phi(g) u, Phi the normal distribution's integral |
 * | geglu_tanh | g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2 u |
 * | clamped_swiglu | g' sigmoid(alpha g') (u' + 1), g' = min(g, limit), u' = u clamped to +-limit (gpt-oss) |
 * | relu2 | max(x, 0)^2 |
 */
const KINDS = ['swiglu', 'geglu_erf', 'geglu_tanh', 'relu2', 'clamped_swiglu'] as const;

const OPTIONS = {
  kind: KINDS,
  type: ['bf16', 'f16', 'f32'],
  interleaved: [false, true],
  output: ['same', 'e4m3', 'e4m3_group'],
} as const;
type Options = Chosen<typeof OPTIONS>;

/** Factor of the sigmoid's argument and limit of both inputs in gpt-oss. */
export const CLAMPED = { alpha: 1.702, limit: 7 } as const;

const BOUND = bound(
  256,
  'exponentials of arguments up to 2^6, whose rounding is multiplied by them, times two approximations and four products',
);

const QUANTISED_BOUND = bound(2 * BOUND.roundings + 8, `${BOUND.why}; so does the largest, which the scale follows`);

/** Vectors of an output that several waves of CTAs share. */
const MANY_VECTORS = 2 ** 18;

const TUNING = { threads: [128, 256, 512], turns: [1, 2, 4, 8], waves: [0, 1, 2, 4, 8, 16] } as const;

const activation: KernelModule = defineKernel({
  name: 'activation',
  summary: 'y = act(gate) * value: SwiGLU, GeGLU, clamped SwiGLU; or squared ReLU; e4m3 of y / scale on demand',
  dims: { rows: 'rows', columns: 'elements of a row of the output' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns }, options: { kind, interleaved, output: kept } }) => {
    if (kind === 'relu2' && interleaved) return 'relu2 has one input for an output: nothing is interleaved';
    return kept === 'e4m3_group' ? groupsRefused(columns) : undefined;
  },
  choose: ({ rows, columns }, { type }) =>
    // A small one is over sooner with more CTAs, a large one has more on its way with larger ones.
    (rows * columns) / vectorOf(columns, [type]) < MANY_VECTORS
      ? { threads: 128, turns: 1, waves: 0 }
      : { threads: 512, turns: 2, waves: 0 },
  tables: { key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, options) => ({
    x: input(options.type, [rows, inputs(options) * columns], normal(2)),
    ...(options.output === 'e4m3' ? { scale: input('f32', [1], values([0.0625])) } : {}),
    y: output(
      options.output === 'same' ? options.type : 'e4m3',
      [rows, columns],
      options.output === 'e4m3_group' ? QUANTISED_BOUND : BOUND,
    ),
    ...scalesOutput(options.output, rows, columns, QUANTISED_BOUND),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, options, tuning: { threads, turns, waves } }, { multiprocessors }) => {
    const vectors = (rows * columns) / vectorOf(columns, [options.type]);
    const blocks = Math.ceil(vectors / (threads * turns));
    return [waves === 0 ? blocks : Math.min(blocks, waves * multiprocessors), 1, 1];
  },
  reference: ({ x, scale }, { rows, columns }, options) => {
    const y = new Float64Array(rows * columns);
    for (let at = 0; at < y.length; at++) {
      const [row, column] = [Math.floor(at / columns), at % columns];
      const begin = row * columns * inputs(options);
      const [gate, value] = options.interleaved
        ? [x[begin + 2 * column], x[begin + 2 * column + 1]]
        : [x[begin + column], x[begin + columns + column]];
      y[at] = activate(options.kind, gate, value);
      if (scale) y[at] = saturated(y[at] / scale[0]);
    }
    if (options.output !== 'e4m3_group') return { y };
    const quantised = quantisedReference(y, rows, columns, 'group');
    return { y: quantised.values, scales: quantised.scales };
  },
  roofline: ({ rows, columns }, options) => ({
    bytes:
      bytesOf(options.type, inputs(options) * rows * columns) +
      bytesOf(options.output === 'same' ? options.type : 'e4m3', rows * columns),
    flops: (options.kind === 'relu2' ? 2 : 8) * rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64 } },
    { dims: { rows: 5, columns: 1000 }, options: { interleaved: true } },
    { dims: { rows: 3, columns: 257 }, options: { type: 'f32' } },
    { dims: { rows: 2, columns: 4096 }, options: { type: 'f16' } },
    { dims: { rows: 3, columns: 520 }, options: { kind: 'geglu_erf' } },
    { dims: { rows: 3, columns: 520 }, options: { kind: 'geglu_erf', type: 'f32' } },
    { dims: { rows: 3, columns: 520 }, options: { kind: 'geglu_tanh', output: 'e4m3' } },
    { dims: { rows: 3, columns: 640 }, options: { output: 'e4m3_group' } },
    { dims: { rows: 3, columns: 520 }, options: { kind: 'relu2' } },
    { dims: { rows: 3, columns: 520 }, options: { kind: 'clamped_swiglu', interleaved: true } },
    { dims: { rows: 16384, columns: 4096 }, large: true },
  ],
});

export default activation;

interface Tensors {
  readonly x: Tensor;
  readonly scale?: Tensor;
  readonly y: Tensor;
  readonly scales?: Tensor;
  readonly pitch?: i32;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { threads, turns, waves } = tuning;
  const vector = vectorOf(dims.columns, [options.type]);
  const perRow = dims.columns / vector;
  return traceKernel('activation', activation.args(dims, options), threads, (t: Tensors, release) => {
    'use gpu';
    const inverseScale = t.scale && rcp(t.scale[0]);
    const vectors = t.rows * perRow;
    const first = bid() * (threads * turns);
    for (const begin of waves === 0 ? [first] : range(first, vectors, gdim() * (threads * turns))) {
      const places = Array.from({ length: turns }, (_none, turn) => {
        'use gpu';
        const index = begin + tid() + turn * threads;
        const known = min(index, vectors - 1);
        const row = idiv(known, perRow);
        return { live: index < vectors, row, at: known - row * perRow };
      });
      const loaded = places.map(({ row, at }) => {
        'use gpu';
        const vectors = vectorsOf(t.x(row, _), vector);
        if (options.kind === 'relu2') return [vectors(_, at).load()];
        if (options.interleaved) return [vectors(_, 2 * at).load(), vectors(_, 2 * at + 1).load()];
        return [vectors(_, at).load(), vectors(_, at + perRow).load()];
      });
      release();
      for (const [turn, { live, row, at }] of places.entries()) {
        const [left, right] = loaded[turn].map((v) => v.to(f32).values());
        const both = [...left, ...(right ?? left)];
        const y = loaded[turn][0].map((_e, i) => {
          'use gpu';
          const [gate, value] = options.interleaved ? [both[2 * i], both[2 * i + 1]] : [both[i], both[vector + i]];
          const scaled = act(options.kind, gate, value);
          return inverseScale === undefined ? scaled : scaled * inverseScale;
        });
        const kept = t.scales ? quantisedVector(y, t.scales, row, at, t.pitch!, live) : y;
        if (live) vectorsOf(t.y(row, _), vector)(_, at).store(kept.to(t.y.type));
      }
    }
  });
}

/** One output of the device, as `activate` has it. */
function act(kind: Options['kind'], gate: f32, value: f32): f32 {
  'use gpu';
  if (kind === 'relu2') {
    const positive = max(gate, 0);
    return positive * positive;
  }
  if (kind === 'swiglu') return deviceSilu(gate) * value;
  if (kind === 'geglu_erf') return deviceGelu(gate) * value;
  if (kind === 'geglu_tanh') return deviceGeluTanh(gate) * value;
  const [g, u] = [min(gate, CLAMPED.limit), min(max(value, -CLAMPED.limit), CLAMPED.limit)];
  return g * deviceSigmoid(g * CLAMPED.alpha) * (u + 1);
}

function inputs({ kind }: Options): number {
  return kind === 'relu2' ? 1 : 2;
}

function activate(kind: Options['kind'], gate: number, value: number): number {
  if (kind === 'relu2') return Math.max(gate, 0) ** 2;
  if (kind === 'swiglu') return silu(gate) * value;
  if (kind === 'geglu_erf') return gelu(gate) * value;
  if (kind === 'geglu_tanh') return geluTanh(gate) * value;
  const [g, u] = [Math.min(gate, CLAMPED.limit), Math.min(Math.max(value, -CLAMPED.limit), CLAMPED.limit)];
  return g * sigmoid(CLAMPED.alpha * g) * (u + 1);
}
