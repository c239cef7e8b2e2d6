import { bid, bidY, sync, warpId, _, type KernelIR } from '@rose/cute';
import { ExpertTiles, mostBlocks } from './support/expert-tiles.ts';
import {
  capacityOf,
  expertEpilogue,
  GROUPED_DIMS,
  GROUPED_OPTIONS,
  groupedArgs,
  groupedKey,
  groupedReference,
  groupedRefused,
  groupedRoofline,
  type GroupedTensors,
} from './support/linear-grouped.ts';
import { MMA_THREADS, MMA_TUNING, mmaRefused, mmaTile, mmaTileOf } from './support/linear-mma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

type GroupedMma = Specialisation<typeof GROUPED_OPTIONS, typeof MMA_TUNING>;

/**
 * The products of a layer of experts on every GPU from sm_80 on: `linear_mma`, where each block of rows finds its expert.
 * There is a CTA for each tile that there can be; those that no expert needs end at once. See support/linear-grouped.ts.
 */
const linearGroupedMma: KernelModule = defineKernel({
  name: 'linear_grouped_mma',
  summary: "y = epilogue(x w[e]^T) for each expert's rows: cp.async and mma.sync (sm_80 and later)",
  dims: GROUPED_DIMS,
  options: GROUPED_OPTIONS,
  tuning: MMA_TUNING,
  refuse: ({ dims, options, tuning }) => groupedRefused(dims, options) ?? mmaRefused(tuning, options.leaves),
  choose: ({ rows, experts }, { leaves }) => {
    const each = rows / experts;
    return { tile: each <= 16 ? '16x64' : each <= 512 || leaves > 2 ? '64x64' : '128x64', stages: 3 };
  },
  tables: { key: groupedKey },
  args: groupedArgs,
  trace: record,
  grid: ({ dims, options, tuning }) => {
    const { rows, columns } = mmaTileOf(tuning.tile);
    return [Math.ceil(dims.columns / columns), mostBlocks(dims.rows, dims.experts, rows, options.form), 1];
  },
  reference: (values, dims, options) => groupedReference(values as never, dims, options),
  roofline: groupedRoofline,
  cases: [
    { dims: { rows: 5, columns: 64, depth: 64, experts: 8 } },
    {
      dims: { rows: 70, columns: 72, depth: 136, experts: 3 },
      options: { bias: true, residual: true, scale: true, type: 'f16' },
    },
    {
      dims: { rows: 60, columns: 64, depth: 256, experts: 3 },
      options: { form: 'masked', leaves: 4, gate: 'silu' },
    },
    { dims: { rows: 64, columns: 1536, depth: 2048, experts: 128 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 8192, columns: 2048, depth: 768, experts: 128 }, options: { leaves: 4 }, large: true },
  ],
});

export default linearGroupedMma;

function record({ dims, options, tuning }: GroupedMma): KernelIR {
  const tile = mmaTileOf(tuning.tile);
  const body = (t: GroupedTensors): void => {
    'use gpu';
    const tiles = new ExpertTiles(dims.experts, tile.rows);
    if (warpId() === 0) tiles.fill(t.groups, t.rows, capacityOf(dims, options));
    sync();
    if (bidY() >= tiles.count()) return;
    const at = tiles.find(bidY(), 1);
    const own = { ...expertEpilogue(t, at.expert, at.end), x: t.x, w: t.w(at.expert, _, _) };
    mmaTile(own, { row: at.row, column: bid() * tile.columns }, dims, options, tuning);
  };
  return traceKernel('linear_grouped_mma', linearGroupedMma.args(dims, options), MMA_THREADS, body);
}
