import {
  bid,
  bidY,
  cpAsyncCommit,
  cpAsyncWait,
  f32,
  fragment,
  i32,
  idiv,
  laneId,
  ldmatrix,
  LeafTree,
  makeLayout,
  min,
  mma,
  shared,
  sync,
  warpId,
  _,
  type Fragment,
  type KernelIR,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { LINEAR_DIMS, LINEAR_OPTIONAL_DIMS } from './support/linear.ts';
import { outputColumns } from './support/linear-epilogue.ts';
import {
  blocksAt,
  FP8_OPTIONS,
  GROUP,
  groupsOf,
  linearFp8Args,
  linearFp8Key,
  linearFp8Reference,
  linearFp8Refused,
  linearFp8Roofline,
  promoted,
  scalePitch,
  type Fp8Tensors,
} from './support/linear-fp8.ts';
import { scaledFragment } from './support/linear-fp8-fragments.ts';
import { fragmentOutputs } from './support/linear-fragments.ts';
import { copyRows, MMA_SHAPES, MMA_THREADS, mmaTileOf, outputColumn } from './support/linear-mma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, scalar, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = {
  /** Rows and columns of a tile, of four warps. */
  tile: ['64x64', '16x64', '32x64'],
  stages: [3, 2, 4],
} as const;
type Mma = Specialisation<typeof FP8_OPTIONS, typeof TUNING>;

/** Bytes from one row of a stage to the next: rows of 144 bytes lie in different banks. */
const PITCH = GROUP + 16;

/**
 * The product of a layer of e4m3 where there is no wgmma, on sm_89 and later: tiles by cp.async into a ring of stages,
 * ldmatrix and mma.sync 16 x 8 x 32. It runs on Hopper too, to bits of its own. Bits: see support/linear-fp8.ts.
 */
const linearFp8Mma: KernelModule = defineKernel({
  name: 'linear_fp8_mma',
  summary: 'y = epilogue(x w^T) of e4m3 with scales: cp.async and mma.sync (sm_89 and later)',
  dims: LINEAR_DIMS,
  optionalDims: LINEAR_OPTIONAL_DIMS,
  options: FP8_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options, tuning: { tile } }) =>
    linearFp8Refused(dims, options) ??
    (tile === '64x64' && options.leaves > 2
      ? `${options.leaves} leaves need more sums than a tile of ${tile} leaves registers for: use 32x64`
      : undefined),
  choose: ({ rows }, { leaves }) => ({ tile: rows <= 16 ? '16x64' : leaves > 2 ? '32x64' : '64x64', stages: 3 }),
  tables: { key: (dims, options) => ({ ...linearFp8Key(dims, options), rows: rowBucket(dims.rows) }) },
  args: ({ rows, ...dims }, options) => ({
    ...linearFp8Args({ rows, ...dims }, options),
    // From one group's scales of x to the next one's, whose tensor may have room for more rows than there are.
    ...(options.scales === 'block' ? { pitch: scalar('i32', scalePitch(rows)) } : {}),
  }),
  trace: record,
  grid: ({ dims, tuning }) => {
    const { rows, columns } = mmaTileOf(tuning.tile);
    return [Math.ceil(dims.columns / columns), Math.ceil(dims.rows / rows), 1];
  },
  reference: (values, dims, options) => linearFp8Reference(values as never, dims, options),
  roofline: linearFp8Roofline,
  cases: [
    { dims: { rows: 1, columns: 64, depth: 128 } },
    { dims: { rows: 67, columns: 72, depth: 144 }, options: { bias: true, residual: true, type: 'f16' } },
    { dims: { rows: 17, columns: 64, depth: 1024 }, options: { leaves: 8, gate: 'silu' } },
    { dims: { rows: 29, columns: 64, depth: 256 }, options: { scales: 'row', leaves: 2, output: 'f32' } },
    {
      dims: { rows: 18, columns: 88, depth: 64, keys: 24, values: 16 },
      options: { scales: 'tensor', split: 'qkv', bias: true },
    },
    { dims: { rows: 2048, columns: 4096, depth: 4096 }, large: true },
    { dims: { rows: 16, columns: 4096, depth: 4096 }, options: { leaves: 8 }, large: true },
  ],
});

export default linearFp8Mma;

interface Tensors extends Fp8Tensors {
  readonly pitch?: i32;
}

function record({ dims, options, tuning }: Mma): KernelIR {
  const { leaves } = options;
  const { stages } = tuning;
  const shape = MMA_SHAPES[tuning.tile];
  const tile = mmaTileOf(tuning.tile);
  const parts = shape.rows / 16;
  const eights = shape.columns / 8;
  const groups = groupsOf(dims.depth);
  const rounds = groups / leaves;
  const body = (t: Tensors): void => {
    'use gpu';
    const stageX = shared('e4m3', makeLayout([tile.rows, GROUP, stages], [PITCH, 1, tile.rows * PITCH]), { name: 'x' });
    const stageW = shared('e4m3', makeLayout([tile.columns, GROUP, stages], [PITCH, 1, tile.columns * PITCH]), {
      name: 'w',
    });
    const firstRow = bidY() * tile.rows;
    const firstColumn = bid() * tile.columns;
    const load = (group: i32): void => {
      'use gpu';
      const stage = group % stages;
      copyRows(stageX, stage, t.x, 16, firstRow, t.rows, group * GROUP, tile.rows, dims.depth);
      copyRows(stageW, stage, t.w, 16, firstColumn, dims.columns, group * GROUP, tile.columns, dims.depth);
    };
    for (let stage = 0; stage < stages - 1; stage++) {
      if (stage < groups) load(i32(stage));
      cpAsyncCommit();
    }

    const lane = laneId();
    const warpRow = idiv(warpId(), shape.over) * shape.rows;
    const warpColumn = (warpId() % shape.over) * shape.columns;
    // Matrices of x: rows 0 and 8 of depth 0, then of depth 16. Matrices of w: depth 0 and 16 of rows 0, then of rows 8.
    const rowX = warpRow + (lane & 15);
    const depthX = (lane >> 4) * 16;
    const rowW = warpColumn + (lane & 7) + (lane >> 4) * 8;
    const depthW = ((lane >> 3) & 1) * 16;
    const scales = scalesOf(t, firstRow + warpRow + (lane >> 2), firstColumn, parts, { dims, options });
    const trees = Array.from({ length: parts }, () => new LeafTree(leaves));
    let totals: (number[] | undefined)[] = [];
    for (let leaf = 0; leaf < leaves; leaf++) {
      const sums = Array.from({ length: parts }, () => fragment('f32', 4 * eights));
      for (let round = i32(0); round < rounds; round += 1) {
        const group = leaf * rounds + round;
        cpAsyncWait(stages - 2);
        // All threads' copies of this group are there, and all have left the stage that is filled next.
        sync();
        if (group + (stages - 1) < groups) load(group + (stages - 1));
        cpAsyncCommit();
        const stage = group % stages;
        const own = scales(group);
        const products = Array.from({ length: parts }, () => fragment('f32', 4 * eights));
        for (let k = 0; k < GROUP; k += 32) {
          const wordsW: number[][] = [];
          for (let eight = 0; eight < eights; eight += 2) {
            const four = ldmatrix(stageW(rowW + eight * 8, depthW + k, stage), { count: 4 });
            wordsW.push(four.slice(0, 2), four.slice(2));
          }
          for (let m = 0; m < parts; m++) {
            const wordsX = ldmatrix(stageX(rowX + m * 16, depthX + k, stage), { count: 4 });
            for (let eight = 0; eight < eights; eight++) multiply(products[m], eight, wordsX, wordsW[eight]);
          }
        }
        for (let m = 0; m < parts; m++) {
          for (let v = 0; v < sums[m].length; v++) {
            // Values come in eights: gates, then values, with a gate.
            const scale = own[2 * m + (Math.floor(v / 2) % 2)]?.[Math.floor(v / 4) % own[0].length];
            sums[m][v] = promoted(sums[m].at(v), products[m].at(v), scale);
          }
        }
      }
      totals = trees.map((tree, m) => tree.add(sums[m].values()));
    }
    const width = outputColumns({ columns: shape.columns }, options);
    for (let m = 0; m < parts; m++) {
      const row = firstRow + warpRow + m * 16;
      const scaled = scaledFragment(totals[m]!, { row, column: firstColumn + warpColumn }, t, dims, options);
      const column = outputColumn(firstColumn + warpColumn, options.gate !== 'none');
      fragmentOutputs(scaled, 0, width, { row, column }, t, dims, options).store();
    }
  };
  return traceKernel('linear_fp8_mma', linearFp8Mma.args(dims, options), MMA_THREADS, body);
}

/** The next 32 of the depth for 16 rows of x and 8 of w. */
function multiply(sums: Fragment, eight: number, wordsX: readonly number[], wordsW: readonly number[]): void {
  'use gpu';
  const before = [0, 1, 2, 3].map((v) => sums.at(4 * eight + v));
  const after = mma('m16n8k32', { a: 'e4m3', b: 'e4m3', d: 'f32' }, wordsX, wordsW, before);
  for (let v = 0; v < 4; v++) sums[4 * eight + v] = after[v];
}

/**
 * What promotes a group's sums: for each of a thread's rows (two of each 16) the factors of the blocks of w; nothing where
 * scales are of rows or tensors.
 */
function scalesOf(
  t: Tensors,
  firstRow: i32,
  firstColumn: i32,
  parts: number,
  { dims, options }: Pick<Mma, 'dims' | 'options'>,
): (group: i32) => f32[][] {
  'use gpu';
  if (options.scales !== 'block') return () => [];
  const rows = Array.from({ length: 2 * parts }, (_none, i) => {
    'use gpu';
    return min(firstRow + 8 * i, t.rows - 1);
  });
  const blocks = blocksAt(firstColumn, dims, options);
  return (group) => {
    'use gpu';
    const ofBlocks = blocks.map((block) => t.wScale(block, _)[group]);
    return rows.map((row) => {
      'use gpu';
      const own = t.xScale[group * t.pitch! + row];
      return ofBlocks.map((scale) => own * scale);
    });
  };
}
