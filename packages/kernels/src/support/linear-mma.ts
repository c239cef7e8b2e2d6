import {
  cpAsync,
  cpAsyncCommit,
  cpAsyncWait,
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
  tid,
  warpId,
  type Tensor,
} from '@rose/cute';
import type { Dims } from '../spec.ts';
import { DEPTH_STEP, type LinearOptions, type LinearTensors } from './linear.ts';
import { outputColumns, type EpilogueOptions } from './linear-epilogue.ts';
import { fragmentOutputs } from './linear-fragments.ts';

/** A tile of a matrix product by one CTA of four warps with cp.async, ldmatrix and mma.sync 16 x 8 x 16. */

/** Rows and columns of a tile: a warp has `rows` x `columns` of it, `down` x `over` warps all of it. */
export const MMA_SHAPES = {
  '64x64': { rows: 32, columns: 32, down: 2, over: 2 },
  '16x64': { rows: 16, columns: 16, down: 1, over: 4 },
  '32x64': { rows: 16, columns: 32, down: 2, over: 2 },
  '128x64': { rows: 64, columns: 32, down: 2, over: 2 },
} as const;
export const MMA_TUNING = {
  /** Rows and columns of a tile, of four warps. */
  tile: ['64x64', '16x64', '128x64'],
  stages: [3, 2, 4],
} as const;
export type MmaTuning = { readonly [K in keyof typeof MMA_TUNING]: (typeof MMA_TUNING)[K][number] };

export const MMA_THREADS = 128;
/** Elements from one row of a stage to the next: rows of 144 bytes lie in different banks. */
const PITCH = DEPTH_STEP + 8;

export function mmaTileOf(tile: keyof typeof MMA_SHAPES): { rows: number; columns: number } {
  const { rows, columns, down, over } = MMA_SHAPES[tile];
  return { rows: rows * down, columns: columns * over };
}

/** Why a tile cannot be had. */
export function mmaRefused({ tile }: MmaTuning, leaves: number): string | undefined {
  return tile === '128x64' && leaves > 2
    ? `${leaves} leaves need more sums than a tile of ${tile} leaves registers for: use 64x64`
    : undefined;
}

/** Where a tile is: its first row of x and y, its first row of w. */
export interface TilePlace {
  readonly row: i32;
  readonly column: i32;
}

/** Computes and stores one tile, once for a kernel; `t.rows` is the end of the rows that are stored. */
export function mmaTile(
  t: LinearTensors,
  at: TilePlace,
  dims: Dims,
  options: EpilogueOptions & Pick<LinearOptions, 'type' | 'leaves'>,
  tuning: MmaTuning,
): void {
  'use gpu';
  const { type, leaves } = options;
  const { stages } = tuning;
  const shape = MMA_SHAPES[tuning.tile];
  const tile = mmaTileOf(tuning.tile);
  const rounds = Math.ceil(dims.depth / leaves / DEPTH_STEP);
  const blocks = shape.columns / 8;
  const stageX = shared(type, makeLayout([tile.rows, DEPTH_STEP, stages], [PITCH, 1, tile.rows * PITCH]), {
    name: 'x',
  });
  const stageW = shared(type, makeLayout([tile.columns, DEPTH_STEP, stages], [PITCH, 1, tile.columns * PITCH]), {
    name: 'w',
  });
  const load = (round: i32): void => {
    'use gpu';
    const stage = round % stages;
    copyRows(stageX, stage, t.x, 8, at.row, t.rows, round * DEPTH_STEP, tile.rows, dims.depth);
    copyRows(stageW, stage, t.w, 8, at.column, dims.columns, round * DEPTH_STEP, tile.columns, dims.depth);
  };
  for (let stage = 0; stage < stages - 1; stage++) {
    if (stage < rounds * leaves) load(i32(stage));
    cpAsyncCommit();
  }

  const lane = laneId();
  const warpRow = idiv(warpId(), shape.over) * shape.rows;
  const warpColumn = (warpId() % shape.over) * shape.columns;
  // Matrices of x: rows 0 and 8 of depth 0, then of depth 8. Matrices of w: depth 0 and 8 of rows 0, then of rows 8.
  const rowX = warpRow + (lane & 15);
  const depthX = (lane >> 4) * 8;
  const rowW = warpColumn + (lane & 7) + (lane >> 4) * 8;
  const depthW = ((lane >> 3) & 1) * 8;
  const trees = Array.from({ length: shape.rows / 16 }, () => new LeafTree(leaves));
  let totals: (number[] | undefined)[] = [];
  for (let leaf = 0; leaf < leaves; leaf++) {
    const sums = Array.from({ length: shape.rows / 16 }, () => fragment('f32', 4 * blocks));
    for (let step = i32(0); step < rounds; step += 1) {
      const round = leaf * rounds + step;
      cpAsyncWait(stages - 2);
      // All threads' copies of this round are there, and all have left the stage that is filled next.
      sync();
      if (round + (stages - 1) < rounds * leaves) load(round + (stages - 1));
      cpAsyncCommit();
      const stage = round % stages;
      for (let k = 0; k < DEPTH_STEP; k += 16) {
        const wordsW: number[][] = [];
        for (let block = 0; block < blocks; block += 2) {
          const four = ldmatrix(stageW(rowW + block * 8, depthW + k, stage), { count: 4 });
          wordsW.push(four.slice(0, 2), four.slice(2));
        }
        for (let m = 0; m < shape.rows / 16; m++) {
          const wordsX = ldmatrix(stageX(rowX + m * 16, depthX + k, stage), { count: 4 });
          for (let block = 0; block < blocks; block++) {
            const before = [0, 1, 2, 3].map((v) => sums[m].at(4 * block + v));
            const after = mma('m16n8k16', { a: type, b: type, d: 'f32' }, wordsX, wordsW[block], before);
            for (let v = 0; v < 4; v++) sums[m][4 * block + v] = after[v];
          }
        }
      }
    }
    totals = trees.map((tree, m) => tree.add(sums[m].values()));
  }
  const width = outputColumns({ columns: shape.columns }, options);
  for (let m = 0; m < shape.rows / 16; m++) {
    const row = at.row + warpRow + m * 16;
    const column = outputColumn(at.column + warpColumn, options.gate !== 'none');
    fragmentOutputs(totals[m]!, 0, width, { row, column }, t, dims, options).store();
  }
}

/** The output column of a column of w. */
export function outputColumn(column: i32, gated: boolean): i32 {
  'use gpu';
  return gated ? column >> 1 : column;
}

/**
 * All threads copy `count` rows of 128 bytes, 16 at once, into a stage; what lies outside of the matrix becomes zero.
 *
 * @param vector elements of 16 bytes
 * @param first, rows the first row, and the matrix' number of them; `depth` and `columns` likewise
 */
export function copyRows(
  to: Tensor,
  stage: i32,
  from: Tensor,
  vector: number,
  first: i32,
  rows: number,
  depth: i32,
  count: number,
  columns: number,
  threads: number = MMA_THREADS,
): void {
  'use gpu';
  const row = tid() >> 3;
  const inside = (tid() & 7) * vector;
  const column = depth + inside;
  for (let i = 0; i < count; i += threads / 8) {
    const at = first + row + i;
    const read = at < rows && column < columns ? i32(16) : i32(0);
    if (i + threads / 8 <= count || row + i < count) {
      cpAsync(to(row + i, inside, stage), from(min(at, rows - 1), min(column, columns - vector)), { bytes: 16, read });
    }
  }
}
