import {
  f32,
  fenceBarrierInit,
  gridDependencyWait,
  gridLaunchDependents,
  i32,
  NamedBarrier,
  persistentTiles,
  Ring,
  shared,
  sync,
  tensorMapPrefetch,
  tid,
  tmaLoad,
  warpId,
  _,
  type KernelIR,
  type TensorMapDescription,
} from '@rose/cute';
import { ExpertTiles, mostBlocks } from './support/expert-tiles.ts';
import {
  capacityOf,
  expertEpilogue,
  expertMaps,
  GROUPED_DIMS,
  GROUPED_OPTIONS,
  groupedArgs,
  groupedKey,
  groupedReference,
  groupedRefused,
  groupedRoofline,
  type GroupedTensors,
} from './support/linear-grouped.ts';
import { DEPTH_STEP } from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import {
  FEW_ROWS_THREADS,
  FewRowsProduct,
  heldRows,
  laySums,
  stageBytes,
  storeVector,
  sumsLayoutOf,
  TILE,
  VECTOR,
} from './support/linear-few.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Rows of x of a tile, all of one expert. */
  rows: [8, 16, 32, 64],
  /** Elements of the depth in a stage. */
  step: [128, 64],
  stages: [5, 2, 3, 4, 6, 8, 10],
  /** CTAs of a multiprocessor. */
  ctas: [1, 2],
} as const;
type Small = Specialisation<typeof GROUPED_OPTIONS, typeof TUNING>;

/** Threads that multiply. */
const MULTIPLY = 128;
/** Bytes of shared memory of a multiprocessor for the stages of its CTAs. */
const SHARED = 184 * 1024;

/**
 * The products of a layer of experts for few rows of each, bound by reading the weights of those that have any: they are the
 * tensor cores' first operand, as in `linear_small`. CTAs stay and walk over tiles of 64 rows of an expert's weights; the
 * next tile's weights are on their way while one ends. Bits: see support/linear-grouped.ts.
 */
const linearGroupedSmall: KernelModule = defineKernel({
  name: 'linear_grouped_small',
  summary:
    "y = epilogue(x w[e]^T) for each expert's rows, few of them: weights by TMA, wgmma with swapped operands (sm_90a)",
  arch: 'sm_90a',
  dims: GROUPED_DIMS,
  options: GROUPED_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning: { rows, step, stages, ctas } }) =>
    groupedRefused(dims, options) ??
    (options.leaves > 1 && (dims.depth / options.leaves) % step !== 0
      ? `a leaf of ${dims.depth / options.leaves} is no multiple of the ${step} elements of a stage`
      : undefined) ??
    (ctas * stages * stageBytes(rows, step) > SHARED
      ? `${ctas} times ${stages} stages of ${stageBytes(rows, step)} bytes are too many`
      : undefined),
  choose: ({ rows, depth, experts }, { leaves }) => {
    // The mean: an expert with more has another block, whose weights the level-2 cache still holds.
    const held = heldRows(rows / experts);
    const step = (depth / leaves) % 128 === 0 ? 128 : 64;
    return { rows: held, step, stages: step === 128 ? 5 : 8, ctas: 1 };
  },
  tables: { key: groupedKey },
  args: groupedArgs,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, options, tuning: { rows, ctas } }, { multiprocessors }) => {
    const blocks = mostBlocks(dims.rows, dims.experts, rows, options.form);
    return [Math.min(ctas * multiprocessors, blocks * Math.ceil(dims.columns / TILE)), 1, 1];
  },
  reference: (values, dims, options) => groupedReference(values as never, dims, options),
  roofline: groupedRoofline,
  cases: [
    { dims: { rows: 8, columns: 64, depth: 128, experts: 40 } },
    {
      dims: { rows: 21, columns: 136, depth: 200, experts: 3 },
      options: { bias: true, residual: true, scale: true, type: 'f16' },
      tuning: { rows: 8 },
    },
    {
      dims: { rows: 24, columns: 64, depth: 512, experts: 4 },
      options: { form: 'masked', leaves: 4, gate: 'gelu_tanh' },
    },
    { dims: { rows: 70, columns: 64, depth: 128, experts: 2 }, options: { output: 'f32' } },
    { dims: { rows: 8, columns: 1536, depth: 2048, experts: 128 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 8, columns: 2048, depth: 768, experts: 128 }, options: { leaves: 4 }, large: true },
    { dims: { rows: 2048, columns: 1536, depth: 2048, experts: 128 }, options: { gate: 'silu' }, large: true },
  ],
});

export default linearGroupedSmall;

function mapsOf(s: Small): Record<string, TensorMapDescription> {
  return expertMaps(s.dims, s.options, s.tuning.rows, TILE);
}

function record(s: Small): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves, gate } = options;
  const { rows, step, stages, ctas } = tuning;
  const boxes = step / DEPTH_STEP;
  const rounds = Math.ceil(dims.depth / leaves / step);
  const across = Math.ceil(dims.columns / TILE);
  const width = outputColumns(dims, options);
  const factor = gate === 'none' ? 1 : 2;
  // Vectors of outputs of a row of the tile, and of the whole tile.
  const rowVectors = TILE / factor / VECTOR;
  const vectors = rowVectors * rows;
  const body = (t: GroupedTensors): void => {
    'use gpu';
    const stageW = shared(type, [TILE * DEPTH_STEP, boxes, stages], { align: 1024, name: 'w' });
    const stageX = shared(type, [rows * DEPTH_STEP, boxes, stages], { align: 1024, name: 'x' });
    const sums = shared(f32, sumsLayoutOf(rows), { name: 'sums' });
    const tiles = new ExpertTiles(dims.experts, rows);
    const ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: 4 });
    if (tid() === 0) {
      ring.init();
      fenceBarrierInit();
    }
    if (tid() === MULTIPLY) {
      tensorMapPrefetch(t.w);
      tensorMapPrefetch(t.x);
    }
    // The next kernel may start where its CTAs find room beside these; it waits for their end.
    gridLaunchDependents();
    gridDependencyWait();
    if (warpId() === MULTIPLY / 32) tiles.fill(t.groups, t.rows, capacityOf(dims, options));
    sync();
    const count = tiles.count() * across;
    if (tid() >= MULTIPLY) {
      if (tid() === MULTIPLY) {
        const producer = ring.producer();
        persistentTiles(count, (number) => {
          'use gpu';
          const at = tiles.find(number, across);
          for (let k = i32(0); k < rounds * leaves * step; k += step) {
            const stage = producer.acquire();
            stage.expect(stageBytes(rows, step));
            for (let box = 0; box < boxes; box++) {
              const from = k + box * DEPTH_STEP;
              tmaLoad(stageW(0, box, stage.index), t.w, [from, at.column * TILE, at.expert], stage.barrier);
              tmaLoad(stageX(0, box, stage.index), t.x, [from, at.row], stage.barrier);
            }
          }
        });
      }
    } else {
      const product = new FewRowsProduct({ type, rows, step, rounds, leaves }, ring, { w: stageW, x: stageX });
      const everyone = new NamedBarrier(1, MULTIPLY);
      persistentTiles(count, (number) => {
        'use gpu';
        const at = tiles.find(number, across);
        const own = product.sums();
        // All have read the sums of the tile before.
        everyone.sync();
        laySums(own, sums);
        everyone.sync();
        const epilogue = expertEpilogue(t, at.expert, at.end);
        for (let turn = 0; turn < vectors; turn += MULTIPLY) {
          const item = turn + tid();
          const inside = item >> Math.log2(rowVectors);
          const place = item & (rowVectors - 1);
          const row = at.row + inside;
          const output = at.column * (TILE / factor) + place * VECTOR;
          const live = item < vectors && row < at.end && output < width;
          if (live) {
            const total = sums(inside, _)
              .tile(VECTOR * factor, place)
              .load()
              .values();
            storeVector(epilogue, total, row, output, dims, options);
          }
        }
      });
    }
  };
  return traceKernel('linear_grouped_small', linearGroupedSmall.args(dims, options), FEW_ROWS_THREADS, body, {
    maps: ['x', 'w'],
    minBlocks: ctas,
    waits: true,
  });
}
