import { bid, bidY, blockReduce, f32, max, min, tid, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { BLOCK_ROWS, GROUP, groupsOf } from './support/linear-fp8.ts';
import { largestOf, scaleOf } from './support/quantise.ts';
import { largestScale, SCALE_BOUND } from './support/quantise-reference.ts';
import { saturated } from './support/reference.ts';
import { bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { vectorsOf } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, input, normal, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const OPTIONS = { type: ['bf16', 'f16', 'f32'] } as const;
const TUNING = { threads: [256, 512] } as const;

/**
 * Weights as e4m3 with scales of blocks of 128 x 128: the largest magnitude of a block becomes 448. What `linear_fp8` takes as
 * w and wScale, [blocks, groups]; of gated layers gates and values are made each by itself, before they are interleaved. A
 * CTA has a block.
 */
const quantiseBlocks: KernelModule = defineKernel({
  name: 'quantise_blocks',
  summary: 'y = e4m3 of w / scale, scale = max|w| / 448 of each 128 x 128 elements',
  dims: { rows: 'rows of w', columns: 'elements of a row, a multiple of 8' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { columns } }) =>
    columns % 8 === 0 ? undefined : `columns is ${columns}; it must be a multiple of 8: pad the weights with zeros`,
  choose: () => ({ threads: 256 }),
  tables: { key: ({ rows, columns }, options) => ({ ...options, rows: rowBucket(rows), columns }) },
  args: ({ rows, columns }, { type }) => ({
    w: input(type, [rows, columns], normal(0.05)),
    y: output('e4m3', [rows, columns], bound(8, 'the scale, its inverse and the product are rounded')),
    scales: output('f32', [blocksOf(rows), groupsOf(columns)], SCALE_BOUND),
    rows: scalar('i32', rows),
  }),
  trace: record,
  grid: ({ dims: { rows, columns } }) => [groupsOf(columns), blocksOf(rows), 1],
  reference: ({ w }, { rows, columns }) => {
    const groups = groupsOf(columns);
    const largest = new Float64Array(blocksOf(rows) * groups);
    const blockAt = (i: number): number =>
      Math.floor(i / columns / BLOCK_ROWS) * groups + Math.floor((i % columns) / GROUP);
    for (const [i, value] of w.entries()) largest[blockAt(i)] = Math.max(largest[blockAt(i)], Math.abs(value));
    const scales = largest.map(largestScale);
    return { y: w.map((value, i) => saturated(value / scales[blockAt(i)])), scales };
  },
  roofline: ({ rows, columns }, { type }) => ({
    bytes: bytesOf(type, rows * columns) + bytesOf('e4m3', rows * columns),
    flops: 2 * rows * columns,
  }),
  cases: [
    { dims: { rows: 128, columns: 256 } },
    { dims: { rows: 136, columns: 200 }, options: { type: 'f32' } },
    { dims: { rows: 5, columns: 136 }, options: { type: 'f16' }, tuning: { threads: 512 } },
    { dims: { rows: 28672, columns: 4096 }, large: true },
  ],
});

export default quantiseBlocks;

function blocksOf(rows: number): number {
  return Math.ceil(rows / BLOCK_ROWS);
}

interface Tensors {
  readonly w: Tensor;
  readonly y: Tensor;
  readonly scales: Tensor;
  readonly rows: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { threads } = tuning;
  const vector = vectorOf(8, [options.type]);
  // Threads of a row of the block, and rows that are read at a time.
  const lanes = GROUP / vector;
  const down = threads / lanes;
  return traceKernel('quantise_blocks', quantiseBlocks.args(dims, options), threads, (t: Tensors, release) => {
    'use gpu';
    const at = bid() * lanes + (tid() & (lanes - 1));
    const firstRow = bidY() * BLOCK_ROWS + (tid() >> Math.log2(lanes));
    // Beyond the last row and vector stands the last one, which lies in the block: no maximum changes.
    const loaded = Array.from({ length: BLOCK_ROWS / down }, (_none, turn) => {
      'use gpu';
      const row = min(firstRow + turn * down, t.rows - 1);
      return vectorsOf(t.w(row, _), vector)(_, min(at, dims.columns / vector - 1)).load();
    });
    release();
    let own = f32(0);
    for (const v of loaded) own = max(own, largestOf(v));
    const { scale, inverse } = scaleOf(f32(blockReduce(own, { threads }, 'max')));
    if (tid() === 0) t.scales(bidY(), _)[bid()] = scale;
    for (const [turn, v] of loaded.entries()) {
      const row = firstRow + turn * down;
      if (row < t.rows && at < dims.columns / vector) {
        vectorsOf(t.y(row, _), vector)(_, at).store(v.map((e) => f32(e) * inverse).to(t.y.type));
      }
    }
  });
}
