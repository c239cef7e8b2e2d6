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
  FEW_ROWS_THREADS,
  fewRowsRefused,
  heldRows,
  laySums,
  STAGE_ROOM,
  placeInCluster,
  sameTile,
  stagesWithin,
  storeVector,
  sumsLayoutOf,
  TILE,
  VECTOR,
} from './support/linear-few.ts';
import { LINEAR_DIMS, LINEAR_OPTIONAL_DIMS } from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import {
  FP8_OPTIONS,
  GROUP,
  linearFp8Args,
  linearFp8Key,
  linearFp8Reference,
  linearFp8Refused,
  linearFp8Roofline,
  scaleMap,
  type Fp8Tensors,
} from './support/linear-fp8.ts';
import { Fp8FewRowsProduct, fp8StageBytes, scaledVector } from './support/linear-fp8-few.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Rows of x that a CTA holds; those beyond the last are zeros. */
  rows: [8, 16, 32, 64],
  /** Groups of 128 elements of the depth in a stage. */
  groups: [2, 1, 4],
  stages: [4, 2, 3, 5, 6, 8, 10, 12],
  /** Groups of CTAs of a cluster, which share the leaves. */
  split: [1, 2, 4, 8],
  /** CTAs of a group, side by side: each loads a part of x for all of them. */
  share: [1, 2, 4, 8],
  /** The next kernel may start at once, and not only when the weights are read: where its CTAs find room beside these. */
  early: [true, false],
} as const;
type Small = Specialisation<typeof FP8_OPTIONS, typeof TUNING>;

/**
 * The product of a layer of e4m3 for few rows, bound by reading the weights, which are the tensor cores' first operand, as
 * in `linear_small`: CTAs of a cluster have the same 64 rows of w and a subtree of the leaves each, or lie side by side and
 * read x once for all of them, or both. wgmma although speed does not need it: mma.sync adds up e4m3 to other bits. Bits: see
 * support/linear-fp8.ts.
 */
const linearFp8Small: KernelModule = defineKernel({
  name: 'linear_fp8_small',
  summary:
    'y = epilogue(x w^T) of e4m3 with scales for 1 to 64 rows: weights by TMA, wgmma with swapped operands (sm_90a)',
  arch: 'sm_90a',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: FP8_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning }) =>
    linearFp8Refused(dims, options) ??
    fewRowsRefused(dims, options.leaves, tuning, {
      elements: tuning.groups * GROUP,
      bytes: fp8StageBytes(tuning.rows, tuning.groups, options),
    }),
  choose: ({ rows, columns, depth }, options) => {
    const { leaves } = options;
    const groups = leaves === 1 || (depth / leaves) % (2 * GROUP) === 0 ? 2 : 1;
    const tiles = Math.ceil(columns / TILE);
    // 64 CTAs with many stages read as fast as more with fewer, but promote many rows more slowly.
    const wanted = heldRows(rows) >= 32 ? 128 : 64;
    const split = ([1, 2, 4] as const).find((ctas) => ctas === leaves || tiles * ctas >= wanted) ?? 8;
    const alone = tiles * split <= 132;
    const room = alone ? STAGE_ROOM.alone : STAGE_ROOM.beside;
    const stages = stagesWithin(room, fp8StageBytes(heldRows(rows), groups, options));
    return { rows: heldRows(rows), groups, stages, split, share: 1, early: alone };
  },
  tables: { key: (dims, options) => ({ ...linearFp8Key(dims, options), rows: heldRows(dims.rows) }) },
  args: linearFp8Args,
  maps: (s) => mapsOf(s),
  trace: record,
  grid: ({ dims, tuning: { split, share } }) => [Math.ceil(dims.columns / TILE / share) * share * split, 1, 1],
  reference: (values, dims, options) => linearFp8Reference(values as never, dims, options),
  roofline: linearFp8Roofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 256 } },
    { dims: { rows: 5, columns: 136, depth: 400 }, options: { bias: true, residual: true, type: 'f16' } },
    { dims: { rows: 15, columns: 64, depth: 2048 }, options: { leaves: 8, gate: 'gelu_tanh' } },
    { dims: { rows: 13, columns: 80, depth: 272 }, options: { scales: 'row', gate: 'silu' } },
    { dims: { rows: 64, columns: 128, depth: 256 }, options: { scales: 'tensor', leaves: 2, output: 'f32' } },
    {
      dims: { rows: 3, columns: 200, depth: 64, keys: 72, values: 24 },
      options: { split: 'qkv', bias: true, output: 'f32' },
    },
    { dims: { rows: 30, columns: 136, depth: 640 }, tuning: { rows: 32, share: 2, split: 1, stages: 2 } },
    {
      dims: { rows: 20, columns: 136, depth: 512 },
      options: { leaves: 4 },
      tuning: { rows: 32, share: 2, split: 4, stages: 2, groups: 1 },
    },
    { dims: { rows: 1, columns: 4096, depth: 14336 }, options: { leaves: 8 }, large: true },
    { dims: { rows: 16, columns: 28672, depth: 4096 }, options: { gate: 'silu' }, large: true },
    { dims: { rows: 64, columns: 6144, depth: 4096 }, options: { bias: true, scales: 'row' }, large: true },
  ],
});

export default linearFp8Small;

function mapsOf({ dims, options, tuning }: Small): Record<string, TensorMapDescription> {
  const { rows, columns, depth } = dims;
  const operand = (across: number, box: number): TensorMapDescription => {
    return { element: 'e4m3', shape: [depth, across], box: [GROUP, box], swizzle: '128' };
  };
  return {
    x: operand(rows, tuning.rows / tuning.share),
    w: operand(columns, TILE),
    ...(options.scales === 'block' ? { xScale: scaleMap(dims, tuning.rows, tuning.groups) } : {}),
  };
}

function record(s: Small): KernelIR {
  const { dims, options, tuning } = s;
  const { leaves, gate } = options;
  const { rows, groups, stages, split, share, early } = tuning;
  const rounds = Math.ceil(dims.depth / leaves / (groups * GROUP));
  // Of a CTA, and those whose weights are loaded before the kernel before this one has ended.
  const leavesHere = leaves / split;
  const groupsHere = rounds * leavesHere * groups;
  const ahead = Math.min(stages, rounds * leavesHere);
  const width = outputColumns(dims, options);
  const factor = gate === 'none' ? 1 : 2;
  // Vectors of outputs of a row of the tile, and of the whole tile.
  const across = TILE / factor / VECTOR;
  const vectors = across * rows;
  // Boxes of TMA begin at multiples of 128 bytes.
  const pitch = Math.max(32, rows * groups);
  const body = (t: Fp8Tensors): void => {
    'use gpu';
    const stageW = shared('e4m3', [TILE * GROUP, groups, stages], { align: 1024, name: 'w' });
    const stageX = shared('e4m3', [rows * GROUP, groups, stages], { align: 1024, name: 'x' });
    const blockScales = options.scales === 'block';
    const scales = blockScales ? shared(f32, [pitch, stages], { align: 128, name: 'scales' }) : undefined;
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
    if (early) gridLaunchDependents();
    const first = i32(rank * groupsHere);
    if (tid() >= 128) {
      if (tid() === 128) {
        const producer = ring.producer();
        const loadW = (stage: FilledStage, group: i32): void => {
          'use gpu';
          stage.expect(fp8StageBytes(rows, groups, options));
          for (let box = 0; box < groups; box++) {
            tmaLoad(stageW(0, box, stage.index), t.w, [(group + box) * GROUP, tile * TILE], stage.barrier);
          }
        };
        const loadX = (stage: FilledStage, group: i32): void => {
          'use gpu';
          for (let box = 0; box < groups; box++) {
            const row = part * (rows / share);
            const to = stageX(row * GROUP, box, stage.index);
            tmaLoad(to, t.x, [(group + box) * GROUP, row], stage.barrier, everybody);
          }
          if (scales) tmaLoad(scales(0, stage.index), t.xScale, [0, group], stage.barrier);
        };
        const early = Array.from({ length: ahead }, () => producer.acquire());
        for (const [i, stage] of early.entries()) loadW(stage, first + i * groups);
        gridDependencyWait();
        for (const [i, stage] of early.entries()) loadX(stage, first + i * groups);
        for (let group = i32(ahead * groups); group < groupsHere; group += groups) {
          const stage = producer.acquire();
          loadW(stage, first + group);
          loadX(stage, first + group);
        }
        if (share > 1) producer.drain();
      }
    } else {
      const of = { rows, groups, rounds, leaves: leavesHere };
      const product = new Fp8FewRowsProduct(of, dims, options, ring, { w: stageW, x: stageX, scales });
      laySums(product.sums(t, tile * TILE, first), parts);
    }
    if (!early) gridLaunchDependents();
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
          storeVector(t, scaledVector(total!, row, output * factor, t, options), row, output, dims, options);
        }
      }
    }
    // Nobody ends while others read its sums.
    if (split > 1) clusterSync();
  };
  return traceKernel('linear_fp8_small', linearFp8Small.args(dims, options), FEW_ROWS_THREADS, body, {
    maps: Object.keys(mapsOf(s)),
    cluster: split * share,
    waits: true,
  });
}
