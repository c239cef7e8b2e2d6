import {
  Accumulators,
  descriptorAdd,
  f32,
  Fragment,
  i32,
  laneId,
  LeafTree,
  operandSlice,
  smemTile,
  STORE_BYTES,
  tensorAt,
  tid,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  type AnyLayout,
  type Consumer,
  type LevelPlace,
  type Ring,
  type Tensor,
} from '@rose/cute';
import { rowBucket } from './bucket.ts';
import { DEPTH_STEP, type LinearOptions } from './linear.ts';

/**
 * What the kernels for many rows on Hopper's tensor cores have in common: one warpgroup loads tiles of x and w by TMA into
 * a ring of stages, two multiply (wgmma 64 x tile x 16).
 */

/** Rows of a tile, 64 for each of two warpgroups. */
export const TILE_ROWS = 128;
/** Two warpgroups multiply, the third loads. */
export const WGMMA_THREADS = 384;
/** That multiply. */
export const WARPS = 8;
/** Bytes of shared memory of a CTA, less what barriers and the like take. */
const SHARED = 232448 - 2048;
/** Registers of a multiprocessor's thread that are left for sums of leaves. */
const SUM_REGISTERS = 200;

/** Rows for which a measured tile counts: each number of tiles by itself while few tiles fill the last round badly. */
export function tileBucket(rows: number): number {
  return rows <= 8 * TILE_ROWS ? Math.ceil(rows / TILE_ROWS) * TILE_ROWS : rowBucket(rows);
}

/** Columns of a tile and leaves of a product. */
export interface TileShape {
  readonly type: LinearOptions['type'];
  readonly tile: number;
  readonly leaves: number;
  /** Stages that a leaf takes. */
  readonly rounds: number;
}

/** How a CTA's shared memory is divided. */
export interface TileMemory {
  /** Of a stage. */
  readonly bytesX: number;
  readonly bytesW: number;
  readonly stages: number;
  /** A warp's part of what is not stages: sums of half the leaves and what is stored lie in the same place. */
  readonly warpBytes: number;
}

/** @param stores outputs pass through shared memory; `reserved` bytes serve something else */
export function tileMemory({ tile, leaves }: TileShape, stores: boolean, reserved: number = 0): TileMemory {
  const bytesX = TILE_ROWS * DEPTH_STEP * 2;
  const bytesW = tile * DEPTH_STEP * 2;
  const warpBytes = Math.max(leaves === 8 ? 16 * tile * 4 : 0, stores ? STORE_BYTES : 0);
  const stages = Math.min(8, Math.floor((SHARED - reserved - WARPS * warpBytes) / (bytesX + bytesW)));
  return { bytesX, bytesW, stages, warpBytes };
}

/** Why a tile of so many columns cannot be had. */
export function tileRefused(
  tile: number,
  { gate, leaves }: Pick<LinearOptions, 'gate' | 'leaves'>,
): string | undefined {
  if (gate !== 'none' && tile % 128 !== 0) {
    return `a tile of ${tile} columns has no whole stores of gated outputs: use 128 or 256`;
  }
  return sumsOf(tile, leaves) > SUM_REGISTERS
    ? `${leaves} leaves need more sums than a tile of ${tile} columns leaves registers for: use a smaller tile`
    : undefined;
}

/** Float32 registers of a thread for one sum, and for all that exist at a time; the highest level waits elsewhere. */
function sumsOf(tile: number, leaves: number): number {
  return (tile / 2) * (1 + Math.min(2, Math.log2(leaves)));
}

type Descriptor = ReturnType<typeof wgmmaDescriptor>;

/** The multiplying side: a warp's sums of one tile after the other, of 16 rows as wgmma holds them. */
export class TileProduct {
  private readonly shape: TileShape;
  private readonly memory: TileMemory;
  private readonly consumer: Consumer;
  /** Leaves take turns: the products of the second run while those of the first end, and nothing is copied. */
  private readonly turns: readonly Accumulators[];
  private readonly start: { readonly x: Descriptor; readonly w: Descriptor };
  private readonly layout: { readonly x: AnyLayout; readonly w: AnyLayout };
  private readonly half: LevelPlace;

  /**
   * @param stages of x and w: [elements of a stage, stages]
   * @param own memory of the warps, [floats of one, warps], for eight leaves; `begin` waits until it may be written
   */
  constructor(
    shape: TileShape,
    memory: TileMemory,
    ring: Ring,
    stages: { readonly x: Tensor; readonly w: Tensor },
    own: Tensor<f32> | undefined,
    begin: () => void,
  ) {
    this.shape = shape;
    this.memory = memory;
    const [x, w] = [smemTile('k', '128', 16, TILE_ROWS, DEPTH_STEP), smemTile('k', '128', 16, shape.tile, DEPTH_STEP)];
    this.layout = { x, w };
    this.start = startOf(stages, x, w, shape.tile);
    this.consumer = ring.consumer().lag();
    this.turns = Array.from({ length: Math.min(2, shape.leaves) }, () => new Accumulators(shape.tile));
    this.half = placeOf(own, begin, this.turns[0]);
  }

  /** The next tile's sums; its stages are released. */
  sums(): number[] {
    'use gpu';
    const { leaves, rounds } = this.shape;
    // Of pairs of leaves; the sum of the first half of eight waits in shared memory.
    const tree = new LeafTree(Math.max(1, leaves / 2), leaves === 8 ? { 1: this.half } : {});
    let total: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      const sums = this.turns[leaf % 2];
      this.multiply(sums, false);
      if (leaf % 2 === 1) {
        wgmmaWait(1);
        this.release();
      }
      for (let round = i32(1); round < rounds; round += 1) {
        this.multiply(sums, true);
        wgmmaWait(1);
        this.release();
      }
      if (leaf % 2 === 1 || leaves === 1) {
        wgmmaWait(0, ...this.turns);
        this.release();
        const [first, second] = this.turns.map((one) => one.values().values());
        total = tree.add(second ? first.map((value, i) => value + second[i]) : first);
      }
    }
    return total!;
  }

  /** Passes over the next tile, of which nothing is wanted. */
  skip(): void {
    'use gpu';
    const { leaves, rounds } = this.shape;
    for (let round = i32(0); round < rounds * leaves; round += 1) {
      this.consumer.wait();
      this.release();
    }
  }

  private multiply(sums: Accumulators, accumulate: boolean): void {
    'use gpu';
    const { index } = this.consumer.wait();
    const fromX = descriptorAdd(this.start.x, index * this.memory.bytesX);
    const fromW = descriptorAdd(this.start.w, index * this.memory.bytesW);
    wgmmaFence();
    for (let k = 0; k < DEPTH_STEP; k += 16) {
      const a = descriptorAdd(fromX, operandSlice(this.layout.x, 16, { rows: 64, k }).bytes);
      const b = descriptorAdd(fromW, operandSlice(this.layout.w, 16, { rows: this.shape.tile, k }).bytes);
      wgmma(sums, a, b, { a: this.shape.type, accumulate: accumulate || k > 0 });
    }
    wgmmaCommit();
  }

  private release(): void {
    'use gpu';
    const oldest = this.consumer.oldest();
    if (laneId() === 0) oldest.release();
  }
}

function startOf(
  stages: { readonly x: Tensor; readonly w: Tensor },
  x: AnyLayout,
  w: AnyLayout,
  tile: number,
): { x: Descriptor; w: Descriptor } {
  'use gpu';
  const group = tid() >> 7;
  return {
    x: wgmmaDescriptor(stages.x(group * 64 * DEPTH_STEP, 0), operandSlice(x, 16, { rows: 64 })),
    w: wgmmaDescriptor(stages.w(0, 0), operandSlice(w, 16, { rows: tile })),
  };
}

/** A thread's values in its warp's memory. */
function placeOf(own: Tensor<f32> | undefined, begin: () => void, like: Accumulators): LevelPlace {
  return {
    put: (list) => {
      'use gpu';
      begin();
      for (let i = 0; i < list.length; i += 4) kept(own!, i).store(new Fragment(list.slice(i, i + 4), 'f32'));
    },
    take: () => {
      'use gpu';
      return like
        .values()
        .values()
        .flatMap((_value, i) => (i % 4 === 0 ? kept(own!, i).load().values() : []));
    },
  };
}

/** Where a thread keeps its values from `first` on, four at a time: a warp's lie side by side. */
function kept(own: Tensor<f32>, first: number): Tensor<f32> {
  'use gpu';
  return tensorAt(own((laneId() + first * 8) * 4, tid() >> 5).address, f32, [4]);
}
