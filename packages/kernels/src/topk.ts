import { bid, f32, i32, TYPE_TOKENS, min, range, warpArgmax, _, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { inside, loadRow, rowPlace } from './support/rows.ts';
import { rowPlan, vectorOf } from './support/row-plan.ts';
import { traceKernel } from './support/trace.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = { threads: [128, 32] } as const;
const OPTIONS = { type: ['f32', 'bf16', 'f16'] } as const;

/**
 * The k largest elements of each row and their places, in descending order; of equals the earlier goes first. Rows are
 * what a router scores: up to 2048 elements, held in the registers of one warp.
 */
const topk: KernelModule = defineKernel({
  name: 'topk',
  summary: 'the k largest of each row, descending, and where they are',
  dims: { rows: 'rows', columns: 'elements of a row', k: 'how many to find' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns, k } }) => {
    if (columns > 2048)
      return `rows of ${columns} elements are too long: at most 2048 fit into the registers of a warp`;
    return k > Math.min(64, columns) ? `k is ${k}; it can be 1 to ${Math.min(64, columns)}` : undefined;
  },
  choose: () => ({ threads: 128 }),
  tables: { key: ({ rows, columns, k }, options) => ({ ...options, rows: rowBucket(rows), columns, k }) },
  args: ({ rows, columns, k }, { type }) => ({
    x: input(type, [rows, columns]),
    value: output(type, [rows, k]),
    index: output('i32', [rows, k]),
    rows: { kind: 'scalar', type: 'i32', value: rows },
  }),
  trace: record,
  grid: ({ dims: { rows }, tuning: { threads } }) => [Math.ceil((rows * 32) / threads), 1, 1],
  reference: ({ x }, { rows, columns, k }) => {
    const [value, index] = [new Float64Array(rows * k), new Float64Array(rows * k)];
    for (let row = 0; row < rows; row++) {
      const own = x.subarray(row * columns, (row + 1) * columns);
      const order = Array.from(own.keys()).toSorted((a, b) => own[b] - own[a] || a - b);
      for (let i = 0; i < k; i++) [value[row * k + i], index[row * k + i]] = [own[order[i]], order[i]];
    }
    return { value, index };
  },
  roofline: ({ rows, columns, k }, { type }) => ({
    bytes: bytesOf(type, rows * (columns + k)) + 4 * rows * k,
    flops: rows * columns,
  }),
  cases: [
    { dims: { rows: 1, columns: 64, k: 1 } },
    { dims: { rows: 5, columns: 128, k: 8 } },
    { dims: { rows: 7, columns: 257, k: 10 }, options: { type: 'bf16' } },
    { dims: { rows: 2, columns: 512, k: 32 }, options: { type: 'f16' } },
    { dims: { rows: 16384, columns: 128, k: 8 }, large: true },
  ],
});

export default topk;

interface Tensors {
  readonly x: Tensor;
  readonly value: Tensor;
  readonly index: Tensor;
  readonly rows: i32;
}

function record({ dims, options, tuning: { threads } }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { columns, k } = dims;
  const vector = vectorOf(columns, [options.type]);
  const plan = rowPlan(columns, vector, { lanes: 32, threads, waves: 0 });
  return traceKernel('topk', topk.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const place = rowPlace(plan);
    const wanted = bid() * plan.rows + place.sub;
    const row = min(wanted, t.rows - 1);
    const x = loadRow(t.x(row, _), plan, place).map((v) => v.to(f32).map((e) => (e === e ? e : f32(-Infinity))));
    let last = f32(Infinity);
    let lastIndex = i32(-1);
    for (const pick of range(k)) {
      let best = f32(-Infinity);
      let index = i32(columns);
      for (let turn = 0; turn < plan.turns; turn++) {
        for (let i = 0; i < vector; i++) {
          const at = (place.lane + turn * plan.lanes) * vector + i;
          const e = x[turn][i];
          const later = e < last || (e === last && at > lastIndex);
          const better = later && (e > best || (e === best && at < index)) && inside(turn, plan, place);
          best = better ? e : best;
          index = better ? at : index;
        }
      }
      const all = warpArgmax(best, index);
      [last, lastIndex] = [all.value, all.index];
      if (place.lane === 0 && wanted < t.rows) {
        t.value(row, _)[pick] = TYPE_TOKENS[options.type](all.value);
        t.index(row, _)[pick] = all.index;
      }
    }
  });
}
