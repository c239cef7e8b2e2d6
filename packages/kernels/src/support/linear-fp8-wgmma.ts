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
import { blocksAt, GROUP, groupsOf, promoted, type Fp8Options, type Fp8Tensors } from './linear-fp8.ts';
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

/** @param tile columns; `stores`: outputs pass through shared memory */
export function fp8TileMemory(tile: number, { leaves, scales }: Fp8Options, stores: boolean): Fp8TileMemory {
  const bytesX = TILE_ROWS * GROUP;
  const bytesW = tile * GROUP;
  const bytesScales = scales === 'block' ? TILE_ROWS * 4 : 0;
  const depth = Math.log2(leaves);
  const levels = Math.min(depth, Math.floor(SUM_REGISTERS / (tile / 2)) - 2);
  const levelBytes = STORE_ROWS * tile * 4;
  const warpBytes = Math.max((depth - levels) * levelBytes, stores ? STORE_BYTES : 0);
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
  private readonly products: Accumulators;
  private readonly start: { readonly x: Descriptor; readonly w: Descriptor };
  private readonly layout: { readonly x: AnyLayout; readonly w: AnyLayout };
  private readonly places: Record<number, LevelPlace>;

  /** @param own memory of the warps, [floats of one, warps]; `begin` waits until it may be written */
  constructor(
    tile: number,
    dims: Dims,
    options: Fp8Options,
    memory: Fp8TileMemory,
    ring: Ring,
    stages: Fp8Stages,
    own: Tensor<f32> | undefined,
    begin: () => void,
  ) {
    this.tile = tile;
    this.dims = dims;
    this.options = options;
    this.memory = memory;
    this.stages = stages;
    const [x, w] = [smemTile('k', '128', 8, TILE_ROWS, GROUP), smemTile('k', '128', 8, tile, GROUP)];
    this.layout = { x, w };
    this.start = startOf(stages, x, w, tile);
    this.consumer = ring.consumer();
    this.products = new Accumulators(tile);
    this.places = own ? placesOf(own, memory, Math.log2(options.leaves), tile / 2, begin) : {};
  }

  /** The sums of the tile whose rows of w begin at `column`; scales of groups are in them. Its stages are released. */
  sums(t: Fp8Tensors, column: i32): number[] {
    'use gpu';
    const { leaves, scales } = this.options;
    const groups = groupsOf(this.dims.depth);
    const rounds = groups / leaves;
    const blocks = scales === 'block' ? blocksAt(column, this.dims, this.options) : [];
    const next = fragment('f32', Math.max(1, blocks.length));
    const fetch = (group: i32): void => {
      'use gpu';
      for (const [i, block] of blocks.entries()) next[i] = t.wScale(block, _)[min(group, groups - 1)];
    };
    fetch(i32(0));
    const sums = fragment('f32', this.tile / 2);
    const tree = new LeafTree(leaves, this.places);
    let total: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      for (let v = 0; v < sums.length; v++) sums[v] = f32(0);
      for (let round = i32(0); round < rounds; round += 1) {
        const stage = this.consumer.wait();
        this.multiply(stage.index);
        // While the products run: the scales of this group, and on their way those of the next one.
        const own = this.scalesOf(stage.index, next.values().slice(0, blocks.length));
        fetch(leaf * rounds + round + 1);
        wgmmaWait(0, this.products);
        // All lanes have read their scales.
        if (blocks.length > 0) syncWarp();
        if (laneId() === 0) stage.release();
        for (let v = 0; v < sums.length; v++) {
          // Values come in eights: gates, then values, with a gate.
          const scale = own[Math.floor(v / 2) % 2]?.[Math.floor(v / 4) % blocks.length];
          sums[v] = promoted(sums.at(v), this.products.get(v), scale);
        }
      }
      total = tree.add(sums.values());
    }
    return total!;
  }

  private multiply(index: i32): void {
    'use gpu';
    const fromX = descriptorAdd(this.start.x, index * this.memory.bytesX);
    const fromW = descriptorAdd(this.start.w, index * this.memory.bytesW);
    wgmmaFence();
    for (let k = 0; k < GROUP; k += 32) {
      const a = descriptorAdd(fromX, operandSlice(this.layout.x, 8, { rows: 64, k }).bytes);
      const b = descriptorAdd(fromW, operandSlice(this.layout.w, 8, { rows: this.tile, k }).bytes);
      wgmma(this.products, a, b, { a: 'e4m3', accumulate: k > 0 });
    }
    wgmmaCommit();
  }

  /** Of a group: for each of the thread's two rows the factors of the blocks of w. */
  private scalesOf(index: i32, ofBlocks: readonly f32[]): f32[][] {
    'use gpu';
    if (!this.stages.scales) return [];
    const row = (tid() >> 5) * STORE_ROWS + (laneId() >> 2);
    const ofRows = this.stages.scales(_, index);
    return [ofRows[row], ofRows[row + 8]].map((own) => ofBlocks.map((scale) => own * scale));
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
