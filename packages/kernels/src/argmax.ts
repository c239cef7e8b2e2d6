import { bid, blockArgmax, f32, min, range, tid, _, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = { threads: [128, 256, 512, 1024] } as const;
const OPTIONS = { type: ['bf16', 'f16', 'f32'] } as const;

/** The place of each row's largest element; the first of equals. NaN counts as less than everything. */
const argmax: KernelModule = defineKernel({
  name: 'argmax',
  summary: 'index[r] = first i with x[r][i] = max(x[r])',
  dims: { rows: 'rows', columns: 'elements of a row' },
  options: OPTIONS,
  tuning: TUNING,
  choose: ({ columns }, { type }) => {
    const vectors = columns / vectorOf(columns, [type]);
    return { threads: vectors <= 512 ? 128 : vectors <= 2048 ? 256 : 1024 };
  },
  tables: { key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns]),
    index: output('i32', [rows]),
  }),
  trace: record,
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

interface Tensors {
  readonly x: Tensor;
  readonly index: Tensor;
}

/** Vectors that a thread loads before it looks at them. */
const TURNS = 4;

function record({ dims, options, tuning: { threads } }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const vector = vectorOf(dims.columns, [options.type]);
  const vectors = dims.columns / vector;
  return traceKernel('argmax', argmax.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const row = vectorsOf(t.x(bid(), _), vector);
    let best = f32(-Infinity);
    let index = min(tid(), vectors - 1) * vector;
    for (const first of range(tid(), vectors, threads * TURNS)) {
      // Beyond the row's end the last vector comes once more, which changes nothing.
      const places = Array.from({ length: TURNS }, (_none, turn) => min(first + turn * threads, vectors - 1));
      const loaded = places.map((place) => row(_, place).load().to(f32));
      for (const [turn, place] of places.entries()) {
        for (let i = 0; i < vector; i++) {
          const better = loaded[turn][i] > best;
          best = better ? loaded[turn][i] : best;
          index = better ? place * vector + i : index;
        }
      }
    }
    const all = blockArgmax(best, index, { threads });
    if (tid() === 0) t.index[bid()] = all.index;
  });
}
