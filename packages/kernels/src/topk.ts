import { todo } from './support/todo.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, type KernelModule } from './spec.ts';

/**
 * The k largest elements of each row and their places, in descending order; of equals the earlier goes first. Rows are
 * what a router scores: up to 2048 elements, held in the registers of one warp.
 */
const topk: KernelModule = defineKernel({
  name: 'topk',
  summary: 'the k largest of each row, descending, and where they are',
  dims: { rows: 'rows', columns: 'elements of a row', k: 'how many to find' },
  options: { type: ['f32', 'bf16', 'f16'] },
  tuning: { threads: [128, 32] },
  refuse: ({ dims: { columns, k } }) => {
    if (columns > 2048)
      return `rows of ${columns} elements are too long: at most 2048 fit into the registers of a warp`;
    return k > Math.min(64, columns) ? `k is ${k}; it can be 1 to ${Math.min(64, columns)}` : undefined;
  },
  choose: () => ({ threads: 128 }),
  args: ({ rows, columns, k }, { type }) => ({
    x: input(type, [rows, columns]),
    value: output(type, [rows, k]),
    index: output('i32', [rows, k]),
    rows: { kind: 'scalar', type: 'i32', value: rows },
  }),
  trace: (s) => todo(s),
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
