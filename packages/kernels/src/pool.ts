import {
  bid,
  bidY,
  f32,
  fragment,
  i32,
  laneId,
  makeLayout,
  max,
  min,
  rcp,
  rsqrt,
  shared,
  sync,
  warpId,
  _,
  type Fragment,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { APPROXIMATION, bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { vectorsOf } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import {
  defineKernel,
  input,
  output,
  scalar,
  type Chosen,
  type Fill,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const OPTIONS = {
  kind: ['mean', 'cls', 'last', 'max', 'mean_sqrt'],
  type: ['bf16', 'f16', 'f32'],
  /** Of y. */
  output: ['f32', 'same'],
} as const;
type Options = Chosen<typeof OPTIONS>;
type Pool = Specialisation<typeof OPTIONS, Record<string, never>>;

/** Warps of a CTA: each adds up every sixteenth row of a sequence. Part of the order of a sum. */
const WARPS = 16;
/** Rows of a thread that are on their way at one time. */
const AHEAD = 8;

/**
 * One vector for each sequence, from the rows of its tokens. Sequence s has the rows rowStart[s] to rowStart[s + 1] - 1,
 * at least one.
 *
 * | kind | y |
 * | --- | --- |
 * | cls | the first row |
 * | last | the last row |
 * | mean | the sum of the rows divided by their number |
 * | mean_sqrt | the sum of the rows divided by the root of their number |
 * | max | the largest of each column |
 *
 * Rows are added up in float32: those of the same number modulo 16 within the sequence one after the other, then these
 * sixteen sums. So y depends on the sequence's rows and their number alone.
 */
const pool: KernelModule = defineKernel({
  name: 'pool',
  summary: 'y[s] = first, last, mean or largest of the rows of sequence s',
  dims: { sequences: 'sequences', rows: 'rows of x, those of all sequences', columns: 'elements of a row' },
  options: OPTIONS,
  refuse: ({ dims: { sequences, rows } }) =>
    rows < sequences ? `${rows} rows are too few for ${sequences} sequences: each has at least one` : undefined,
  choose: () => ({}),
  args: ({ sequences, rows, columns }, options) => ({
    x: input(options.type, [rows, columns]),
    rowStart: input('i32', [sequences + 1], starts(rows)),
    y: output(options.output === 'f32' ? 'f32' : options.type, [sequences, columns], boundOf(options, rows)),
    sequences: scalar('i32', sequences),
  }),
  trace: record,
  grid: ({ dims: { sequences, columns }, options: { type } }) => [
    Math.ceil(columns / (32 * vectorOf(columns, [type]))),
    sequences,
    1,
  ],
  reference: ({ x, rowStart }, { sequences, columns }, { kind }) => {
    const y = new Float64Array(sequences * columns);
    const magnitude = new Float64Array(y.length);
    for (let at = 0; at < y.length; at++) {
      const [sequence, column] = [Math.floor(at / columns), at % columns];
      const [from, to] = [rowStart[sequence], rowStart[sequence + 1]];
      const values = Array.from({ length: to - from }, (_none, i) => x[(from + i) * columns + column]);
      y[at] = pooled(kind, values);
      magnitude[at] = kind.startsWith('mean') ? pooled(kind, values.map(Math.abs)) : Math.abs(y[at]);
    }
    return { y: { values: y, magnitude } };
  },
  roofline: ({ sequences, rows, columns }, { kind, type, output: out }) => ({
    bytes:
      bytesOf(type, (kind === 'cls' || kind === 'last' ? sequences : rows) * columns) +
      bytesOf(out === 'f32' ? 'f32' : type, sequences * columns),
    flops: kind === 'cls' || kind === 'last' ? 0 : rows * columns,
  }),
  cases: [
    { dims: { sequences: 1, rows: 1, columns: 64 } },
    { dims: { sequences: 3, rows: 150, columns: 72 } },
    { dims: { sequences: 4, rows: 40, columns: 257 }, options: { kind: 'mean_sqrt', type: 'f32' } },
    { dims: { sequences: 5, rows: 60, columns: 320 }, options: { kind: 'max', type: 'f16', output: 'same' } },
    { dims: { sequences: 3, rows: 20, columns: 320 }, options: { kind: 'cls', output: 'same' } },
    { dims: { sequences: 3, rows: 20, columns: 40 }, options: { kind: 'last' } },
    { dims: { sequences: 64, rows: 32768, columns: 768 }, large: true },
    { dims: { sequences: 1, rows: 32768, columns: 4096 }, large: true },
  ],
});

export default pool;

function boundOf({ kind, output: out }: Options, rows: number): ReturnType<typeof bound> | undefined {
  if (kind.startsWith('mean')) {
    const why = 'a sum of a sixteenth of the rows one after the other, then of sixteen, times an approximate quotient';
    return bound(Math.ceil(rows / WARPS) + WARPS + APPROXIMATION.rsqrt, why);
  }
  return out === 'same' ? undefined : bound(0, 'the number itself');
}

/** Sequences of random lengths, at least 1, that have all rows. */
function starts(rows: number): Fill {
  return (random, length) => {
    const [sequences, list] = [length - 1, [0]];
    for (let s = 1; s < sequences; s++) {
      const last = list[s - 1];
      // As many rows are left for each of the others.
      const most = rows - last - (sequences - s);
      list.push(last + 1 + random.integer(Math.min(most, Math.ceil((2 * (rows - last)) / (sequences - s + 1)))));
    }
    return Float64Array.from([...list, rows]);
  };
}

function pooled(kind: Options['kind'], values: readonly number[]): number {
  if (kind === 'cls') return values[0];
  if (kind === 'last') return values[values.length - 1];
  if (kind === 'max') return Math.max(...values);
  const sum = values.reduce((all, value) => all + value, 0);
  return sum / (kind === 'mean' ? values.length : Math.sqrt(values.length));
}

interface Tensors {
  readonly x: Tensor;
  readonly rowStart: Tensor<i32>;
  readonly y: Tensor;
  readonly sequences: i32;
}

function record({ dims, options }: Pool): KernelIR {
  const { kind, type } = options;
  const vector = vectorOf(dims.columns, [type]);
  const perRow = dims.columns / vector;
  const reduces = kind !== 'cls' && kind !== 'last';
  const warps = reduces ? WARPS : 1;
  return traceKernel('pool', pool.args(dims, options), 32 * warps, (t: Tensors, release) => {
    'use gpu';
    // A launch for more sequences than there are has nothing to do for the others.
    if (bidY() < t.sequences) {
      const sequence = bidY();
      const from = t.rowStart[sequence];
      const rows = t.rowStart[sequence + 1] - from;
      const at = bid() * 32 + laneId();
      const known = min(at, perRow - 1);
      const rowAt = (row: i32): Fragment =>
        vectorsOf(t.x(from + row, _), vector)(_, known)
          .load()
          .to(f32);
      const store = (y: Fragment): void => {
        'use gpu';
        if (at < perRow) vectorsOf(t.y(sequence, _), vector)(_, at).store(y.to(t.y.type));
      };
      if (!reduces) store(rowAt(kind === 'cls' ? i32(0) : rows - 1));
      else {
        const own = fragment('f32', vector);
        if (kind === 'max') for (let i = 0; i < vector; i++) own[i] = f32(-Infinity);
        for (let first = i32(warpId()); first < rows; first += WARPS * AHEAD) {
          const ahead = Array.from({ length: AHEAD }, (_none, turn) => rowAt(min(first + turn * WARPS, rows - 1)));
          for (let turn = 0; turn < AHEAD; turn++) {
            const live = first + turn * WARPS < rows;
            for (let i = 0; i < vector; i++) {
              const e = f32(ahead[turn][i]);
              // The last row once more changes no maximum, and 0 no sum.
              own[i] = kind === 'max' ? max(own[i], e) : own[i] + (live ? e : f32(0));
            }
          }
        }
        release();
        const parts = shared(f32, makeLayout([32 * vector, WARPS]));
        const mine = (warp: i32): Tensor<f32> => parts(_, warp).tile(vector, laneId());
        mine(warpId()).store(own);
        sync();
        if (warpId() === 0) {
          let all = mine(i32(0)).load();
          for (let warp = 1; warp < WARPS; warp++) {
            const part = mine(i32(warp)).load();
            all = all.map((e, i) => (kind === 'max' ? max(e, part[i]) : e + part[i]));
          }
          const factor = kind === 'mean' ? rcp(f32(rows)) : kind === 'mean_sqrt' ? rsqrt(f32(rows)) : undefined;
          store(factor === undefined ? all : all.map((e) => e * factor));
        }
      }
    }
  });
}
