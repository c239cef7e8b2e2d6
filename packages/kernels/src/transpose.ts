import {
  bid,
  bidY,
  fragment,
  idiv,
  makeLayout,
  shared,
  sync,
  tid,
  TYPE_TOKENS,
  _,
  type i32,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = { type: ['bf16', 'f16', 'f32'] } as const;
const TUNING = { tile: [64, 32] } as const;

/** The transpose of a matrix. Tiles go through shared memory, so that reads and writes both run along rows. */
const transpose: KernelModule = defineKernel({
  name: 'transpose',
  summary: 'y[c][r] = x[r][c]',
  dims: { rows: 'rows of x', columns: 'columns of x' },
  options: OPTIONS,
  tuning: TUNING,
  choose: () => ({ tile: 64 }),
  args: ({ rows, columns }, { type }) => ({
    x: input(type, [rows, columns]),
    y: output(type, [columns, rows]),
    rows: scalar('i32', rows),
    columns: scalar('i32', columns),
  }),
  trace: record,
  grid: ({ dims: { rows, columns }, tuning: { tile } }) => [Math.ceil(columns / tile), Math.ceil(rows / tile), 1],
  reference: ({ x }, { rows, columns }) => ({
    y: Float64Array.from({ length: x.length }, (_, at) => x[(at % rows) * columns + Math.floor(at / rows)]),
  }),
  roofline: ({ rows, columns }, { type }) => ({ bytes: bytesOf(type, 2 * rows * columns), flops: 0 }),
  cases: [
    { dims: { rows: 64, columns: 128 } },
    { dims: { rows: 1, columns: 257 } },
    { dims: { rows: 131, columns: 67 }, options: { type: 'f32' } },
    { dims: { rows: 8192, columns: 8192 }, large: true },
  ],
});

export default transpose;

interface Tensors {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly rows: i32;
  readonly columns: i32;
}

const THREADS = 256;

function record({ dims, options, tuning: { tile } }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const [across, down] = [vectorOf(dims.columns, [options.type]), vectorOf(dims.rows, [options.type])];
  return traceKernel('transpose', transpose.args(dims, options), THREADS, (t: Tensors) => {
    'use gpu';
    // One element more a row: what a warp reads down a column then lies in different banks.
    const kept = shared(t.x.type, makeLayout([tile, tile], [tile + 1, 1]));
    const [left, top] = [bid() * tile, bidY() * tile];
    for (let turn = 0; turn < (tile * tile) / across / THREADS; turn++) {
      const piece = tid() + turn * THREADS;
      const row = idiv(piece, tile / across);
      const column = (piece - row * (tile / across)) * across;
      if (top + row < dims.rows && left + column < dims.columns) {
        const v = vectorsOf(t.x(top + row, _), across)(_, idiv(left + column, across)).load();
        for (let i = 0; i < across; i++) kept(row, column + i)[0] = v[i];
      }
    }
    sync();
    for (let turn = 0; turn < (tile * tile) / down / THREADS; turn++) {
      const piece = tid() + turn * THREADS;
      const column = idiv(piece, tile / down);
      const row = (piece - column * (tile / down)) * down;
      if (top + row < dims.rows && left + column < dims.columns) {
        const v = fragment(TYPE_TOKENS[options.type], down);
        for (let i = 0; i < down; i++) v[i] = kept(row + i, column)[0] as number;
        vectorsOf(t.y(left + column, _), down)(_, idiv(top + row, down)).store(v);
      }
    }
  });
}
