import {
  Accumulators,
  descriptorAdd,
  f32,
  Fragment,
  fragment,
  i32,
  laneId,
  LeafTree,
  min,
  operandSlice,
  smemTile,
  STORE_BYTES,
  STORE_ROWS,
  syncWarp,
  tensorAt,
  tid,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  _,
  type AnyLayout,
  type Consumer,
  type LevelPlace,
  type Ring,
  type Tensor,
} from '@rose/cute';
import type { Dims } from '../spec.ts';
import { BLOCK_ROWS, blocksAt, GROUP, groupsOf, promoted, type Fp8Options, type Fp8Tensors } from './linear-fp8.ts';
import { TILE_ROWS, WARPS } from './linear-wgmma.ts';

/**
 * What a product of e4m3 for many rows multiplies with on Hopper's tensor cores: stages of one group of the depth, two
 * warpgroups (wgmma 64 x tile x 32), each of which promotes its sums while the other's products run.
 */

/** Bytes of shared memory of a CTA, less what barriers take. */
const SHARED = 232448 - 1024;
/** Registers of a multiplying thread for sums. */
const SUM_REGISTERS = 200;

/** How a CTA's shared memory is divided. */
export interface Fp8TileMemory {
  /** Of a stage. */
  readonly bytesX: number;
  readonly bytesW: number;
  readonly bytesScales: number;
  readonly stages: number;
  /** Levels of the tree of leaves whose sums wait in registers; those of higher ones wait in shared memory. */
  readonly levels: number;
  /** Of a level in shared memory, of one warp. */
  readonly levelBytes: number;
  /** A warp's part of what is not stages: sums of higher levels and what is stored lie in the same place. */
  readonly warpBytes: number;
}

/** Columns of a tile, and groups whose products run at the same time. */
export interface Fp8TileShape {
  readonly tile: number;
  readonly turns: number;
}

/** Why a tile cannot be had. */
export function fp8TileRefused(shape: Fp8TileShape, options: Fp8Options): string | undefined {
  const { tile, turns } = shape;
  if (options.gate !== 'none' && tile % 128 !== 0) {
    return `a tile of ${tile} columns has no whole stores of gated outputs: use 128`;
  }
  const { levels, stages } = fp8TileMemory(shape, options);
  return levels < 0 || stages < 2
    ? `${options.leaves} leaves and ${turns} turns need more sums than there is room for with a tile of ${tile} columns`
    : undefined;
}

export function fp8TileMemory({ tile, turns }: Fp8TileShape, { leaves, scales, output }: Fp8Options): Fp8TileMemory {
  const stores = output === 'same';
  const bytesX = TILE_ROWS * GROUP;
  const bytesW = tile * GROUP;
  const bytesScales = scales === 'block' ? TILE_ROWS * 4 : 0;
  const depth = Math.log2(leaves);
  // Registers hold the products of each turn, the sum of a leaf, and those of levels.
  const levels = Math.min(depth, Math.floor(SUM_REGISTERS / (tile / 2)) - 1 - turns);
  const levelBytes = STORE_ROWS * tile * 4;
  const warpBytes = Math.max((depth - Math.max(0, levels)) * levelBytes, stores ? STORE_BYTES : 0);
  const stages = Math.min(8, Math.floor((SHARED - WARPS * warpBytes) / (bytesX + bytesW + bytesScales)));
  return { bytesX, bytesW, bytesScales, stages, levels, levelBytes, warpBytes };
}

type Descriptor = ReturnType<typeof wgmmaDescriptor>;

/** Stages in shared memory: [elements of a stage, stages]; scales of the tile's rows where groups have their own. */
export interface Fp8Stages {
  readonly x: Tensor;
  readonly w: Tensor;
  readonly scales: Tensor<f32> | undefined;
}

/** The multiplying side: a warp's sums of one tile after the other, of 16 rows as wgmma holds them. */
export class Fp8TileProduct {
  private readonly tile: number;
  private readonly dims: Dims;
  private readonly options: Fp8Options;
  private readonly memory: Fp8TileMemory;
  private readonly stages: Fp8Stages;
  private readonly consumer: Consumer;
  /** Groups take turns, where registers allow two: what their products add up to, and what these are promoted by. */
  private readonly turns: readonly { readonly products: Accumulators; readonly factors: Fragment }[];
  private readonly start: { readonly x: Descriptor; readonly w: Descriptor };
  private readonly layout: { readonly x: AnyLayout; readonly w: AnyLayout };
  private readonly places: Record<number, LevelPlace>;

  /** @param own memory of the warps, [floats of one, warps]; `begin` waits until it may be written */
  constructor(
    { tile, turns }: Fp8TileShape,
    dims: Dims,
    options: Fp8Options,
    ring: Ring,
    stages: Fp8Stages,
    own: Tensor<f32> | undefined,
    begin: () => void,
  ) {
    this.tile = tile;
    this.dims = dims;
    this.options = options;
    const memory = fp8TileMemory({ tile, turns }, options);
    this.memory = memory;
    this.stages = stages;
    const [x, w] = [smemTile('k', '128', 8, TILE_ROWS, GROUP), smemTile('k', '128', 8, tile, GROUP)];
    this.layout = { x, w };
    this.start = startOf(stages, x, w, tile);
    this.consumer = ring.consumer().lag();
    const factors = options.scales === 'block' ? 2 * blocksOfTile(tile, options) : 0;
    this.turns = Array.from({ length: turns }, () => ({
      products: new Accumulators(tile),
      factors: fragment('f32', factors),
    }));
    this.places = own ? placesOf(own, memory, Math.log2(options.leaves), tile / 2, begin) : {};
  }

  /** The sums of the tile whose rows of w begin at `column`; scales of groups are in them. Its stages are released. */
  sums(t: Fp8Tensors, column: i32): number[] {
    'use gpu';
    const { leaves } = this.options;
    const groups = groupsOf(this.dims.depth);
    const rounds = groups / leaves;
    const weights = new WeightScales(t, column, this.tile, this.dims, this.options);
    const sums = fragment('f32', this.tile / 2);
    const tree = new LeafTree(leaves, this.places);
    let total: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      for (let v = 0; v < sums.length; v++) sums[v] = f32(0);
      const first = leaf * rounds;
      if (this.turns.length === 1) {
        for (let round = i32(0); round < rounds; round += 1) {
          this.multiply(0, weights, first + round);
          this.promote(0, sums, 0);
        }
      } else {
        // The second group's products run while the first one's are promoted.
        for (let round = i32(0); round < rounds - 1; round += 2) {
          this.multiply(0, weights, first + round);
          this.multiply(1, weights, first + round + 1);
          this.promote(0, sums, 1);
          this.promote(1, sums, 0);
        }
        if (rounds % 2 === 1) {
          this.multiply(0, weights, i32(first + rounds - 1));
          this.promote(0, sums, 0);
        }
      }
      total = tree.add(sums.values());
    }
    return total!;
  }

  /** Starts the products of a group, and reads its scales meanwhile. */
  private multiply(turn: number, weights: WeightScales, group: i32): void {
    'use gpu';
    const { products, factors } = this.turns[turn];
    const { index } = this.consumer.wait();
    const fromX = descriptorAdd(this.start.x, index * this.memory.bytesX);
    const fromW = descriptorAdd(this.start.w, index * this.memory.bytesW);
    wgmmaFence();
    for (let k = 0; k < GROUP; k += 32) {
      const a = descriptorAdd(fromX, operandSlice(this.layout.x, 8, { rows: 64, k }).bytes);
      const b = descriptorAdd(fromW, operandSlice(this.layout.w, 8, { rows: this.tile, k }).bytes);
      wgmma(products, a, b, { a: 'e4m3', accumulate: k > 0 });
    }
    wgmmaCommit();
    if (!this.stages.scales) return;
    const row = (tid() >> 5) * STORE_ROWS + (laneId() >> 2);
    const ofRows = this.stages.scales(_, index);
    const ofBlocks = weights.take(group + 1);
    for (let half = 0; half < 2; half++) {
      const own = ofRows[row + 8 * half];
      for (const [i, scale] of ofBlocks.entries()) factors[ofBlocks.length * half + i] = own * scale;
    }
  }

  /** Waits until the oldest group's products have ended, of `running` others not; adds them to the sums. */
  private promote(turn: number, sums: Fragment, running: number): void {
    'use gpu';
    const { products, factors } = this.turns[turn];
    wgmmaWait(running, products);
    // All lanes have read their scales.
    if (this.stages.scales) syncWarp();
    const stage = this.consumer.oldest();
    if (laneId() === 0) stage.release();
    const blocks = factors.length / 2;
    // With a gate values come in eights: gates, then values. A tile of three blocks has 64 columns of each.
    const blockOf = (v: number): number => (blocks === 3 ? Math.floor(v / 32) : Math.floor(v / 4) % blocks);
    for (let v = 0; v < sums.length; v++) {
      const half = Math.floor(v / 2) % 2;
      const scale = blocks === 0 ? undefined : factors.at(blocks * half + blockOf(v));
      sums[v] = promoted(sums.at(v), products.get(v), scale);
    }
  }
}

/** Blocks of w whose scales a tile is promoted by: its gates' and its values', or that of each 64 columns of 192. */
function blocksOfTile(tile: number, { gate }: Fp8Options): number {
  return gate === 'none' ? (tile > BLOCK_ROWS ? tile / 64 : 1) : 2;
}

function tileBlocks(column: i32, tile: number, dims: Dims, options: Fp8Options): i32[] {
  'use gpu';
  if (blocksOfTile(tile, options) < 3) return blocksAt(column, dims, options);
  // Beyond the last column stands the last one: nobody stores it.
  return [0, 64, 128].flatMap((further) => blocksAt(min(column + further, dims.columns - 8), dims, options));
}

/** The scales of a tile's blocks of w, on their way one group ahead. */
class WeightScales {
  private readonly wScale: Tensor<f32>;
  private readonly blocks: readonly i32[];
  private readonly last: number;
  private readonly next: Fragment;

  constructor(t: Fp8Tensors, column: i32, tile: number, dims: Dims, options: Fp8Options) {
    this.wScale = t.wScale;
    this.blocks = options.scales === 'block' ? tileBlocks(column, tile, dims, options) : [];
    this.last = groupsOf(dims.depth) - 1;
    this.next = fragment('f32', Math.max(1, this.blocks.length));
    this.fetch(i32(0));
  }

  /** Those that were fetched; fetches the next ones. */
  take(next: i32): f32[] {
    const own = this.next.values().slice(0, this.blocks.length);
    this.fetch(next);
    return own;
  }

  private fetch(group: i32): void {
    'use gpu';
    for (const [i, block] of this.blocks.entries()) this.next[i] = this.wScale(block, _)[min(group, this.last)];
  }
}

function startOf(
  { x, w }: Fp8Stages,
  layoutX: AnyLayout,
  layoutW: AnyLayout,
  tile: number,
): { x: Descriptor; w: Descriptor } {
  'use gpu';
  const group = tid() >> 7;
  return {
    x: wgmmaDescriptor(x(group * 64 * GROUP, 0), operandSlice(layoutX, 8, { rows: 64 })),
    w: wgmmaDescriptor(w(0, 0), operandSlice(layoutW, 8, { rows: tile })),
  };
}

/** The levels of the tree that wait in shared memory: each thread's values in its warp's part. */
function placesOf(
  own: Tensor<f32>,
  { levels, levelBytes }: Fp8TileMemory,
  depth: number,
  count: number,
  begin: () => void,
): Record<number, LevelPlace> {
  'use gpu';
  const places: Record<number, LevelPlace> = {};
  for (let level = levels; level < depth; level++) {
    // A warp's values lie side by side, four of each thread.
    const at = (first: number): Tensor<f32> => {
      'use gpu';
      const offset = (level - levels) * (levelBytes / 4);
      return tensorAt(own(offset + (laneId() + first * 8) * 4, tid() >> 5).address, f32, [4]);
    };
    places[level] = {
      put: (list) => {
        'use gpu';
        begin();
        for (let i = 0; i < count; i += 4) at(i).store(new Fragment(list.slice(i, i + 4), 'f32'));
      },
      take: () => {
        'use gpu';
        return Array.from({ length: count / 4 }, (_none, i) =>
          at(4 * i)
            .load()
            .values(),
        ).flat();
      },
    };
  }
  return places;
}
