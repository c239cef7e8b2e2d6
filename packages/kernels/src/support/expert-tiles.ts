import { i32, idiv, laneId, max, min, shared, shuffleIndex, shuffleUp, _, type Tensor } from '@rose/cute';
import type { GroupForm } from './linear-grouped.ts';

/** Which expert a tile belongs to: found on the device, from where the experts' rows are. */

/** The most experts: their places lie in shared memory. */
export const MOST_EXPERTS = 1024;

/** Bytes of shared memory that a table of so many experts takes. */
export function tableBytes(experts: number): number {
  return 3 * 4 * (places(experts) + 1);
}

/** Experts, rounded up to a power of two of at least a warp's lanes: for a search without bounds. */
function places(experts: number): number {
  return Math.max(32, 2 ** Math.ceil(Math.log2(experts)));
}

/**
 * The most blocks of `block` rows that the experts' rows can be cut into, each expert's by themselves, however they are
 * divided: what a grid may depend on.
 */
export function mostBlocks(rows: number, experts: number, block: number, form: GroupForm): number {
  if (form === 'masked') return experts * Math.ceil(rows / experts / block);
  return Math.min(rows, experts) + Math.floor(Math.max(0, rows - experts) / block);
}

/** A block of rows of one expert. */
export interface RowBlock {
  readonly expert: i32;
  /** Its first row in x and y, and the end of the expert's rows. */
  readonly row: i32;
  readonly end: i32;
  /** The tile's number among those of the block: 0 to `across` - 1. */
  readonly column: i32;
}

/** For each expert its first row, the end of its rows, and the number of blocks of the experts before it. */
export class ExpertTiles {
  private readonly experts: number;
  private readonly block: number;
  private readonly table: Tensor<i32>;

  /** @param block rows of a tile, a power of two */
  constructor(experts: number, block: number) {
    this.experts = experts;
    this.block = block;
    this.table = shared(i32, [3, places(experts) + 1], { name: 'experts' });
  }

  /**
   * A whole warp fills the table; the CTA meets in a barrier afterwards. Rows beyond `rows` are left out.
   *
   * @param groups on the device: `contiguous`: where each expert's rows begin, and where the last one's end;
   *   `masked`: how many of an expert's `capacity` rows there are
   */
  fill(groups: Tensor<i32>, rows: number, capacity: number | undefined): void {
    'use gpu';
    const lane = laneId();
    const turns = Array.from({ length: places(this.experts) / 32 }, (_, turn) => turn * 32 + lane);
    // All loads are on their way before the first is needed.
    const extents = turns.map((place) => {
      'use gpu';
      const expert = min(place, this.experts - 1);
      if (capacity === undefined) return [groups[expert], groups[expert + 1]];
      return [expert * capacity, expert * capacity + min(groups[expert], capacity)];
    });
    let before = i32(0);
    for (const [turn, place] of turns.entries()) {
      const first = max(extents[turn][0], 0);
      const end = min(extents[turn][1], rows);
      const own =
        place < this.experts && end > first ? (end - first + (this.block - 1)) >> Math.log2(this.block) : i32(0);
      let sum = own;
      for (let distance = 1; distance < 32; distance *= 2) {
        const other = shuffleUp(sum, distance);
        sum = lane >= distance ? sum + other : sum;
      }
      this.table(0, _)[place] = first;
      this.table(1, _)[place] = end;
      this.table(2, _)[place] = before + sum - own;
      before = before + shuffleIndex(sum, 31);
    }
    if (lane === 0) this.table(2, _)[places(this.experts)] = before;
  }

  /** Blocks of all experts. */
  count(): i32 {
    'use gpu';
    return this.table(2, _)[places(this.experts)];
  }

  /**
   * The block of tile `number`, where each block has `across` tiles side by side. Tiles that have the same weights, those
   * of an expert's blocks below each other, have consecutive numbers: they run at one time, and the level-2 cache serves
   * all but the first.
   */
  find(number: i32, across: number): RowBlock {
    'use gpu';
    const block = idiv(number, across);
    // The last expert before whom there are no more blocks than that.
    let expert = i32(0);
    for (let step = places(this.experts) / 2; step >= 1; step /= 2) {
      const further = expert + step;
      expert = this.table(2, _)[further] <= block ? further : expert;
    }
    const first = this.table(0, _)[expert];
    const end = this.table(1, _)[expert];
    const inside = number - this.table(2, _)[expert] * across;
    const blocks = (end - first + (this.block - 1)) >> Math.log2(this.block);
    const column = idiv(inside, blocks);
    return { expert, row: first + (inside - column * blocks) * this.block, end, column };
  }
}
