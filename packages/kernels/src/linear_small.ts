import {
  clusterSync,
  f32,
  fenceBarrierInit,
  gridDependencyWait,
  gridLaunchDependents,
  i32,
  LeafTree,
  mapShared,
  Ring,
  shared,
  sync,
  tensorAt,
  tid,
  tmaLoad,
  _,
  type FilledStage,
  type KernelIR,
  type TensorMapDescription,
} from '@rose/cute';
import {
  DEPTH_STEP,
  LINEAR_DIMS,
  LINEAR_OPTIONAL_DIMS,
  LINEAR_OPTIONS,
  linearArgs,
  linearKey,
  linearReference,
  linearRefused,
  linearRoofline,
  type LinearTensors,
} from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import {
  FEW_ROWS_THREADS,
  FewRowsProduct,
  fewRowsRefused,
  heldRows,
  laySums,
  STAGE_ROOM,
  placeInCluster,
  sameTile,
  stagesWithin,
  stageBytes,
  storeVector,
  sumsLayoutOf,
  TILE,
  VECTOR,
} from './support/linear-few.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Rows of x that a CTA holds; those beyond the last are zeros. */
  rows: [8, 16, 32, 64],
  /** Elements of the depth in a stage. */
  step: [128, 64, 256],
  stages: [4, 2, 3, 5, 6, 8, 10, 12],
  /** Groups of CTAs of a cluster, which share the leaves. */
  split: [1, 2, 4, 8],
  /** CTAs of a group, side by side: each loads a part of x for all of them. */
  share: [1, 2, 4, 8],
  /** When the next kernel may start and load weights: at once, when all of these are on their way, or when they are read. */
  next: ['start', 'loaded', 'read'],
} as const;
type Small = Specialisation<typeof LINEAR_OPTIONS, typeof TUNING>;

/**
 * The product of a layer for few rows, bound by reading the weights: they are the tensor cores' first operand (wgmma 64 x
 * rows x 16), x the second. The CTAs of a cluster have the same 64 rows of w and a subtree of the leaves each, and add up
 * their parts of the sums, which lie in the shared memory of all; or they lie side by side, and read x once for all of
 * them: with 64 rows it is as much as the weights of each; or both (`placeInCluster`). It overlaps the kernel before it: the first weights are
 * on their way while that one ends, so nobody may write weights right before. Bits: see support/linear.ts.
 */
const linearSmall: KernelModule = defineKernel({
  name: 'linear_small',
  summary:
    'y = epilogue(x w^T) for 1 to 64 rows: weights by TMA, wgmma with swapped operands, leaves over a cluster (sm_90a)',
  arch: 'sm_90a',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: LINEAR_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning }) =>
    linearRefused(dims, options) ??
    fewRowsRefused(dims, options.leaves, tuning, {
      elements: tuning.step,
      bytes: stageBytes(tuning.rows, tuning.step),
    }),
  choose: ({ rows, columns, depth }, { leaves }) => {
    const step = (depth / leaves) % 128 === 0 ? 128 : 64;
    const tiles = Math.ceil(columns / TILE);
    // 64 CTAs with many stages read nearly as fast as more with fewer; tables know where more are better.
    const split = ([1, 2, 4] as const).find((ctas) => ctas === leaves || tiles * ctas >= 64) ?? 8;
    const alone = tiles * split <= 132;
    // With as much of x as of w, and room for the next kernel's CTAs on other multiprocessors.
    const full = heldRows(rows) === 64 && tiles * split <= 66;
    const room = full ? STAGE_ROOM.all : alone ? STAGE_ROOM.alone : STAGE_ROOM.beside;
    const stages = stagesWithin(room, stageBytes(heldRows(rows), step));
    const next = full ? 'loaded' : alone ? 'start' : 'read';
    return { rows: heldRows(rows), step, stages, split, share: 1, next };
  },
  tables: { key: (dims, options) => ({ ...linearKey(dims, options), rows: heldRows(dims.rows) }) },
  args: linearArgs,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, tuning: { split, share } }) => [Math.ceil(dims.columns / TILE / share) * share * split, 1, 1],
  reference: (values, dims, options) => linearReference(values as never, dims, options),
  roofline: linearRoofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 128 } },
    {
      dims: { rows: 5, columns: 136, depth: 200 },
      options: { bias: true, residual: true, type: 'f16', activation: 'relu' },
    },
    { dims: { rows: 15, columns: 64, depth: 1024 }, options: { leaves: 8, gate: 'gelu_tanh', scale: true } },
    { dims: { rows: 64, columns: 128, depth: 256 }, options: { leaves: 2, activation: 'tanh', output: 'f32' } },
    { dims: { rows: 30, columns: 136, depth: 320 }, tuning: { rows: 32, share: 2, split: 1, stages: 2 } },
    { dims: { rows: 2, columns: 72, depth: 1024 }, options: { leaves: 2 }, tuning: { split: 2, stages: 2 } },
    {
      dims: { rows: 28, columns: 200, depth: 512 },
      options: { leaves: 4, residual: true },
      tuning: { rows: 32, split: 2, share: 4, stages: 2 },
    },
    {
      dims: { rows: 3, columns: 200, depth: 64, keys: 72, values: 24 },
      options: { split: 'qkv', bias: true, output: 'f32' },
    },
    { dims: { rows: 1, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 16, columns: 28672, depth: 4096 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 64, columns: 6144, depth: 4096 }, options: { bias: true }, large: true },
    {
      dims: { rows: 32, columns: 6144, depth: 4096, keys: 1024, values: 1024 },
      options: { split: 'qkv' },
      large: true,
    },
  ],
});

export default linearSmall;

function mapsOf({ dims, options, tuning }: Small): Record<string, TensorMapDescription> {
  const map = (across: number, box: number): TensorMapDescription => {
    return { element: options.type, shape: [dims.depth, across], box: [DEPTH_STEP, box], swizzle: '128' };
  };
  return { x: map(dims.rows, tuning.rows / tuning.share), w: map(dims.columns, TILE) };
}

function record(s: Small): KernelIR {
  const { dims, options, tuning } = s;
  const { type, leaves, gate } = options;
  const { rows, step, stages, split, share, next } = tuning;
  const boxes = step / DEPTH_STEP;
  const rounds = Math.ceil(dims.depth / leaves / step);
  // Of a CTA, and those whose weights are loaded before the kernel before this one has ended.
  const leavesHere = leaves / split;
  const ahead = Math.min(stages, rounds * leavesHere);
  const width = outputColumns(dims, options);
  const factor = gate === 'none' ? 1 : 2;
  // Vectors of outputs of a row of the tile, and of the whole tile.
  const across = TILE / factor / VECTOR;
  const vectors = across * rows;
  const boxW = TILE * DEPTH_STEP;
  const boxX = rows * DEPTH_STEP;

  const body = (t: LinearTensors): void => {
    'use gpu';
    const stageW = shared(type, [boxW, boxes, stages], { align: 1024, name: 'w' });
    const stageX = shared(type, [boxX, boxes, stages], { align: 1024, name: 'x' });
    const sumsLayout = sumsLayoutOf(rows);
    const parts = shared(f32, sumsLayout, { name: 'sums' });
    const place = placeInCluster(split, share);
    const { rank, part, tile } = place;
    const everybody = share > 1 ? { multicast: place.mask } : {};
    const ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: 4, ctas: share, first: place.first });
    if (tid() === 0) {
      ring.init();
      fenceBarrierInit();
    }
    if (share > 1) clusterSync();
    else sync();
    if (next === 'start') gridLaunchDependents();
    if (tid() >= 128) {
      if (tid() === 128) {
        const producer = ring.producer();
        const first = rank * (rounds * leavesHere * step);
        const loadW = (stage: FilledStage, depth: i32): void => {
          'use gpu';
          stage.expect(stageBytes(rows, step));
          for (let box = 0; box < boxes; box++) {
            tmaLoad(stageW(0, box, stage.index), t.w, [depth + box * DEPTH_STEP, tile * TILE], stage.barrier);
          }
        };
        const loadX = (stage: FilledStage, depth: i32): void => {
          'use gpu';
          for (let box = 0; box < boxes; box++) {
            const row = part * (rows / share);
            const to = stageX(row * DEPTH_STEP, box, stage.index);
            tmaLoad(to, t.x, [depth + box * DEPTH_STEP, row], stage.barrier, everybody);
          }
        };
        const early = Array.from({ length: ahead }, () => producer.acquire());
        for (const [i, stage] of early.entries()) loadW(stage, first + i * step);
        gridDependencyWait();
        for (const [i, stage] of early.entries()) loadX(stage, first + i * step);
        for (let k = i32(ahead * step); k < rounds * leavesHere * step; k += step) {
          const stage = producer.acquire();
          loadW(stage, first + k);
          loadX(stage, first + k);
        }
        if (next === 'loaded') gridLaunchDependents();
        if (share > 1) producer.drain();
      }
    } else {
      const product = new FewRowsProduct({ type, rows, step, rounds, leaves: leavesHere }, ring, {
        w: stageW,
        x: stageX,
      });
      laySums(product.sums(), parts);
    }
    if (next === 'read') gridLaunchDependents();
    if (split > 1) clusterSync();
    else sync();

    if (tid() < 128) {
      gridDependencyWait();
      for (let turn = 0; turn < vectors; turn += 128 * split) {
        const item = turn + rank * 128 + tid();
        const row = item >> Math.log2(across);
        const vector = item & (across - 1);
        const output = tile * (TILE / factor) + vector * VECTOR;
        const live = item < vectors && row < t.rows && output < width;
        if (live) {
          const tree = new LeafTree(split);
          let total: number[] | undefined;
          for (let other = 0; other < split; other++) {
            const from =
              split === 1 ? parts : tensorAt(mapShared(parts.address, sameTile(other, place, share)), f32, sumsLayout);
            total = tree.add(
              from(row, _)
                .tile(VECTOR * factor, vector)
                .load()
                .values(),
            );
          }
          storeVector(t, total!, row, output, dims, options);
        }
      }
    }
    // Nobody ends while others read its sums.
    if (split > 1) clusterSync();
  };
  return traceKernel('linear_small', linearSmall.args(dims, options), FEW_ROWS_THREADS, body, {
    maps: ['x', 'w'],
    cluster: split * share,
    waits: true,
  });
}
