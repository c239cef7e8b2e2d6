import {
  Accumulators,
  descriptorAdd,
  f32,
  fragment,
  i32,
  laneId,
  LeafTree,
  min,
  operandSlice,
  smemTile,
  syncWarp,
  tensorAt,
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
import { blocksAt, GROUP, groupsOf, promoted, scaledSum, type Fp8Options, type Fp8Tensors } from './linear-fp8.ts';
import { TILE } from './linear-few.ts';

/**
 * What the product of e4m3 for few rows multiplies with on Hopper's tensor cores: the weights are the first operand (wgmma
 * 64 x rows x 32), x the second, and one warpgroup multiplies and promotes.
 */

export interface Fp8FewRows {
  /** Of x, a multiple of 8. */
  readonly rows: number;
  /** Groups of the depth in a stage. */
  readonly groups: number;
  /** Stages of a leaf. */
  readonly rounds: number;
  /** Of the CTA. */
  readonly leaves: number;
}

/** Bytes of a stage. */
export function fp8StageBytes(rows: number, groups: number, { scales }: Pick<Fp8Options, 'scales'>): number {
  return ((TILE + rows) * GROUP + (scales === 'block' ? rows * 4 : 0)) * groups;
}

/** Stages in shared memory: [elements of a box, boxes of a stage, stages]; scales [of a stage, stages]. */
export interface Fp8FewStages {
  readonly w: Tensor;
  readonly x: Tensor;
  readonly scales: Tensor<f32> | undefined;
}

type Descriptor = ReturnType<typeof wgmmaDescriptor>;

/** The multiplying side. */
export class Fp8FewRowsProduct {
  private readonly of: Fp8FewRows;
  private readonly dims: Dims;
  private readonly options: Fp8Options;
  private readonly stages: Fp8FewStages;
  private readonly consumer: Consumer;
  /** The groups of a stage are added up each by itself: the products of the next one run while one is promoted. */
  private readonly products: readonly Accumulators[];
  private readonly start: { readonly w: Descriptor; readonly x: Descriptor };
  private readonly layout: { readonly w: AnyLayout; readonly x: AnyLayout };

  constructor(of: Fp8FewRows, dims: Dims, options: Fp8Options, ring: Ring, stages: Fp8FewStages) {
    this.of = of;
    this.dims = dims;
    this.options = options;
    this.stages = stages;
    const [w, x] = [smemTile('k', '128', 8, TILE, GROUP), smemTile('k', '128', 8, of.rows, GROUP)];
    this.layout = { w, x };
    this.start = startOf(stages, w, x, of.rows);
    this.consumer = ring.consumer();
    this.products = Array.from({ length: of.groups }, () => new Accumulators(of.rows));
  }

  /**
   * The sums of the CTA's leaves, of the rows of w from `column` on; scales of groups are in them.
   *
   * @param first group of the first leaf
   */
  sums(t: Fp8Tensors, column: i32, first: i32): number[] {
    'use gpu';
    const { rows, groups, rounds, leaves } = this.of;
    const blocks = this.options.scales === 'block' ? blocksAt(column, this.dims, this.options) : [];
    // Scales of w, box by box; those of the next stage are on their way. Beyond the last group stands the last one.
    const next = fragment('f32', Math.max(1, groups * blocks.length));
    const fetch = (group: i32): void => {
      'use gpu';
      for (let box = 0; box < groups; box++) {
        const from = min(group + box, groupsOf(this.dims.depth) - 1);
        for (const [i, block] of blocks.entries()) next[box * blocks.length + i] = t.wScale(block, _)[from];
      }
    };
    fetch(first);
    const sums = fragment('f32', rows / 2);
    const tree = new LeafTree(leaves);
    let own: number[] | undefined;
    for (let leaf = 0; leaf < leaves; leaf++) {
      for (let v = 0; v < sums.length; v++) sums[v] = f32(0);
      for (let round = i32(0); round < rounds; round += 1) {
        const stage = this.consumer.wait();
        this.multiply(stage.index);
        const ofW = next.values();
        const ofX = this.rowScales(stage.index);
        fetch(first + (leaf * rounds + round + 1) * groups);
        for (const [box, product] of this.products.entries()) {
          wgmmaWait(groups - 1 - box, product);
          if (box === groups - 1) {
            // All lanes have read their scales.
            if (blocks.length > 0) syncWarp();
            if (laneId() === 0) stage.release();
          }
          for (let v = 0; v < sums.length; v++) {
            // Rows of w come in eights: gates, then values, with a gate.
            const block = box * blocks.length + (Math.floor(v / 2) % Math.max(1, blocks.length));
            const scale = ofX[box] && ofX[box][2 * Math.floor(v / 4) + (v % 2)] * ofW[block];
            sums[v] = promoted(sums.at(v), product.get(v), scale);
          }
        }
      }
      own = tree.add(sums.values());
    }
    return own!;
  }

  private multiply(index: i32): void {
    'use gpu';
    const { rows, groups } = this.of;
    const fromW = descriptorAdd(this.start.w, index * (groups * TILE * GROUP));
    const fromX = descriptorAdd(this.start.x, index * (groups * rows * GROUP));
    wgmmaFence();
    for (const [box, product] of this.products.entries()) {
      for (let k = 0; k < GROUP; k += 32) {
        const a = operandSlice(this.layout.w, 8, { rows: TILE, k }).bytes + box * TILE * GROUP;
        const b = operandSlice(this.layout.x, 8, { rows, k }).bytes + box * rows * GROUP;
        wgmma(product, descriptorAdd(fromW, a), descriptorAdd(fromX, b), { a: 'e4m3', accumulate: k > 0 });
      }
      wgmmaCommit();
    }
  }

  /** For each group of a stage the scales of the thread's rows of x: two neighbours of each eight. */
  private rowScales(index: i32): f32[][] {
    'use gpu';
    const { scales } = this.stages;
    if (!scales) return [];
    const { rows, groups } = this.of;
    return Array.from({ length: groups }, (_none, box) =>
      Array.from({ length: rows / 8 }, (_nothing, eight) => {
        'use gpu';
        const at = scales(box * rows + eight * 8 + (laneId() & 3) * 2, index).address;
        return tensorAt(at, f32, [2]).load().values();
      }).flat(),
    );
  }
}

function startOf(
  { w, x }: Fp8FewStages,
  layoutW: AnyLayout,
  layoutX: AnyLayout,
  rows: number,
): { w: Descriptor; x: Descriptor } {
  'use gpu';
  return {
    w: wgmmaDescriptor(w(0, 0, 0), operandSlice(layoutW, 8, { rows: TILE })),
    x: wgmmaDescriptor(x(0, 0, 0), operandSlice(layoutX, 8, { rows })),
  };
}

/**
 * Sums of neighbouring rows of w for one row of x by the scales of rows, or of whole tensors.
 *
 * @param column the first one's row of w, a multiple of their number
 */
export function scaledVector(
  sums: readonly number[],
  row: i32,
  column: i32,
  t: Fp8Tensors,
  { scales }: Pick<Fp8Options, 'scales'>,
): number[] {
  'use gpu';
  if (scales === 'block') return [...sums];
  if (scales === 'tensor') return sums.map((sum) => scaledSum(f32(sum), t.xScale[0], t.wScale[0]));
  const count = sums.length;
  const ofColumns = t.wScale.tile(count, column >> Math.log2(count)).load();
  return sums.map((sum, i) => scaledSum(f32(sum), t.xScale[row], ofColumns[i]));
}
