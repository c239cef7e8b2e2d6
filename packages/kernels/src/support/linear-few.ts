import {
  Accumulators,
  bid,
  clusterRank,
  descriptorAdd,
  f32,
  Fragment,
  i32,
  laneId,
  LeafTree,
  makeLayout,
  operandSlice,
  smemTile,
  warpId,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  _,
  type AnyLayout,
  type Consumer,
  type Ring,
  type Tensor,
} from '@rose/cute';
import type { Dims } from '../spec.ts';
import { DEPTH_STEP, type LinearOptions } from './linear.ts';
import { finish, outputTensors, type EpilogueTensors, type EpilogueOptions } from './linear-epilogue.ts';

/**
 * What the kernels for few rows on Hopper's tensor cores have in common: the weights are the first operand (wgmma 64 x
 * rows x 16), x the second, and one warpgroup multiplies. Its sums go through shared memory, as rows of y need them.
 */

/** Rows of w of a tile: what one wgmma takes. */
export const TILE = 64;
/** Columns of y that a thread finishes at once. */
export const VECTOR = 8;

/** Four warps multiply, one loads. */
export const FEW_ROWS_THREADS = 160;
/** Bytes of shared memory of a multiprocessor for stages: of all its CTAs, of one that is alone there, and of one of two. */
export const STAGE_ROOM: Readonly<Record<'all' | 'alone' | 'beside', number>> = {
  all: 208 * 1024,
  alone: 160 * 1024,
  beside: 100 * 1024,
};

/** CTAs of a cluster that every GPU with clusters can have. */
const MOST_CTAS = 8;

/**
 * Where a CTA of a cluster stands: `split` groups of `share` neighbours each. Those of a group have tiles side by side and the
 * same leaves, and each loads a part of x for all of them; those with the same place in their groups have one tile, and
 * add up what they made of their leaves.
 */
export interface PlaceInCluster {
  /** Of the group: which leaves. */
  readonly rank: i32 | 0;
  /** In the group: which part of x. */
  readonly part: i32 | 0;
  /** Which 64 rows of w. */
  readonly tile: i32;
  /** Ranks of the group in the cluster: the first one, and all of them as the mask of a multicast. */
  readonly first: i32 | 0;
  readonly mask: i32 | number;
}

export function placeInCluster(split: number, share: number): PlaceInCluster {
  'use gpu';
  const everybody = 2 ** share - 1;
  if (split === 1) return { rank: 0, part: share === 1 ? 0 : clusterRank(), tile: bid(), first: 0, mask: everybody };
  const own = clusterRank();
  if (share === 1) return { rank: own, part: 0, tile: bid() >> Math.log2(split), first: own, mask: 1 };
  const rank = own >> Math.log2(share);
  const part = own & (share - 1);
  const first = rank << Math.log2(share);
  const tile = ((bid() >> Math.log2(split * share)) << Math.log2(share)) + part;
  return { rank, part, tile, first, mask: i32(everybody) << first };
}

/** Rank in the cluster of the CTA of another group that has the same tile. */
export function sameTile(group: number, { part }: PlaceInCluster, share: number): i32 | number {
  'use gpu';
  return share === 1 ? group : part + group * share;
}

/** Rows of x of the smallest tile that holds so many. */
export function heldRows(rows: number): 8 | 16 | 32 | 64 {
  return ([8, 16, 32] as const).find((size) => size >= rows) ?? 64;
}

/** As many stages of so many bytes as there is room for. */
export function stagesWithin(room: number, bytes: number): 8 | 6 | 5 | 4 | 3 | 2 {
  return ([8, 6, 5, 4, 3] as const).find((count) => count * bytes <= room) ?? 2;
}

/**
 * Why a tile, a ring or a cluster cannot be had.
 *
 * @param tuning rows of x that a CTA holds; CTAs of a cluster that share the leaves (`split`) or x (`share`)
 * @param stage elements of the depth, and bytes
 */
export function fewRowsRefused(
  dims: Dims,
  leaves: number,
  { rows, stages, split, share }: Readonly<Record<'rows' | 'stages' | 'split' | 'share', number>>,
  stage: { readonly elements: number; readonly bytes: number },
): string | undefined {
  if (dims.rows > rows) return `${dims.rows} rows do not fit a tile of ${rows}: use more, or the kernel for many rows`;
  if (leaves > 1 && (dims.depth / leaves) % stage.elements !== 0) {
    return `a leaf of ${dims.depth / leaves} is no multiple of the ${stage.elements} elements of a stage`;
  }
  if (share * split > MOST_CTAS) return `a cluster has ${MOST_CTAS} CTAs at most, not ${split} times ${share}`;
  if (rows % (8 * share) !== 0) return `${rows} rows are not loaded by ${share} CTAs, in eights`;
  if (split > leaves) return `${leaves} leaves are not shared by ${split} CTAs`;
  return stages * stage.bytes > STAGE_ROOM.all ? `${stages} stages of ${stage.bytes} bytes are too many` : undefined;
}

/** Bytes of a stage: `step` elements of the tile's rows of w and of `rows` rows of x. */
export function stageBytes(rows: number, step: number): number {
  return (TILE + rows) * step * 2;
}

export interface FewRows {
  readonly type: LinearOptions['type'];
  /** Of x, a multiple of 8. */
  readonly rows: number;
  /** Elements of the depth in a stage. */
  readonly step: number;
  /** Stages of a leaf. */
  readonly rounds: number;
  readonly leaves: number;
}

type Descriptor = ReturnType<typeof wgmmaDescriptor>;

/** The multiplying side: a thread's sums of one tile after the other. */
export class FewRowsProduct {
  private readonly of: FewRows;
  private readonly consumer: Consumer;
  private readonly total: Accumulators;
  private readonly start: { readonly w: Descriptor; readonly x: Descriptor };
  private readonly layout: { readonly w: AnyLayout; readonly x: AnyLayout };

  /** @param stages of w and x: [elements of a box, boxes of a stage, stages] */
  constructor(of: FewRows, ring: Ring, stages: { readonly w: Tensor; readonly x: Tensor }) {
    this.of = of;
    const [w, x] = [smemTile('k', '128', 16, TILE, DEPTH_STEP), smemTile('k', '128', 16, of.rows, DEPTH_STEP)];
    this.layout = { w, x };
    this.start = startOf(stages, w, x, of.rows);
    this.consumer = ring.consumer();
    this.total = new Accumulators(of.rows);
  }

  /** The next tile's sums, of all its leaves; its stages are released. */
  sums(): number[] {
    'use gpu';
    const { type, rows, step, rounds, leaves } = this.of;
    const boxes = step / DEPTH_STEP;
    const sums = this.total;
    const tree = new LeafTree(leaves);
    let own: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      sums.fill(0);
      for (let round = i32(0); round < rounds; round += 1) {
        const stage = this.consumer.wait();
        const fromW = descriptorAdd(this.start.w, stage.index * (boxes * TILE * DEPTH_STEP * 2));
        const fromX = descriptorAdd(this.start.x, stage.index * (boxes * rows * DEPTH_STEP * 2));
        wgmmaFence();
        for (let k = 0; k < step; k += 16) {
          const [box, inside] = [Math.floor(k / DEPTH_STEP), k % DEPTH_STEP];
          const a = operandSlice(this.layout.w, 16, { rows: TILE, k: inside }).bytes + box * TILE * DEPTH_STEP * 2;
          const b = operandSlice(this.layout.x, 16, { rows, k: inside }).bytes + box * rows * DEPTH_STEP * 2;
          wgmma(sums, descriptorAdd(fromW, a), descriptorAdd(fromX, b), { a: type });
        }
        wgmmaCommit();
        wgmmaWait(0, sums);
        if (laneId() === 0) stage.release();
      }
      own = tree.add(sums.values().values());
    }
    return own!;
  }
}

function startOf(
  stages: { readonly w: Tensor; readonly x: Tensor },
  w: AnyLayout,
  x: AnyLayout,
  rows: number,
): { w: Descriptor; x: Descriptor } {
  'use gpu';
  return {
    w: wgmmaDescriptor(stages.w(0, 0, 0), operandSlice(w, 16, { rows: TILE })),
    x: wgmmaDescriptor(stages.x(0, 0, 0), operandSlice(x, 16, { rows })),
  };
}

/** Rows of a tile's sums lie 272 bytes apart, so that a warp's threads write to different banks. */
export function sumsLayoutOf(rows: number): AnyLayout {
  return makeLayout([rows, TILE], [TILE + 4, 1]);
}

/** Lays a thread's sums into shared memory, [rows of x, rows of w]. */
export function laySums(sums: readonly number[], to: Tensor<f32>): void {
  'use gpu';
  // Thread values of wgmma: rows of w down the warps, neighbouring rows of x.
  for (let v = 0; v < sums.length; v++) {
    const column = warpId() * 16 + (laneId() >> 2) + 8 * (Math.floor(v / 2) % 2);
    const row = (laneId() & 3) * 2 + (v % 2) + 8 * Math.floor(v / 4);
    to(row, column).store(new Fragment([sums[v]], 'f32'));
  }
}

/**
 * Finishes and stores outputs of one row from its sums.
 *
 * @param sums of VECTOR neighbouring columns; with a gate of twice as many: gates, then values
 * @param output the first one's column in y, a multiple of VECTOR
 */
export function storeVector(
  t: EpilogueTensors,
  sums: readonly number[],
  row: i32,
  output: i32,
  dims: Dims,
  options: EpilogueOptions & Pick<LinearOptions, 'type'>,
): void {
  'use gpu';
  const { gate, type } = options;
  const factor = gate === 'none' ? 1 : 2;
  const place = output >> 3;
  const bias = t.bias && t.bias.tile(VECTOR * factor, place).load();
  const part = <T>(list: readonly T[], at: number): T[] => list.slice(at, at + VECTOR);
  const y = finish(options, part(sums, 0), gate === 'none' ? undefined : part(sums, VECTOR), {
    scale: t.scale?.[0],
    bias: bias && new Fragment(part(bias.values(), 0), type),
    valueBias: bias && new Fragment(part(bias.values(), VECTOR), type),
    residual: t.residual && t.residual(row, _).tile(VECTOR, place).load(),
  });
  const outputs = outputTensors(t, dims, options);
  for (const { tensor, first, columns } of outputs) {
    if (outputs.length === 1 || (output >= first && output < first + columns)) {
      tensor(row, _)
        .tile(VECTOR, (output - first) >> 3)
        .store(new Fragment(y, 'f32').to(tensor.type));
    }
  }
}
