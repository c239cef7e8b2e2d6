import { addressIn, combine, moved, results, special, storeVector, type Int, type Place } from '../atoms/record.ts';
import type { Value } from '../ir/ir.ts';

/** Where the sums of one level wait, if not in registers. */
export interface LevelPlace {
  put(values: readonly Int[]): void;
  take(): Int[];
}

const FOUR = ['f32', 'f32', 'f32', 'f32'] as const;

/**
 * A thread's values in shared memory, four beside those of the warp's other threads.
 *
 * @param place the warp's part, 128 bytes for each value, aligned to 16
 * @param count of a thread's float32 values, a multiple of 4
 */
export function sharedLevel(place: Place, count: number): LevelPlace {
  const at = (first: number): Value =>
    moved(moved(addressIn(place, ['ptr.shared']), special('laneid'), 16), first, 128);
  return {
    put: (values) => {
      for (let i = 0; i < count; i += 4) storeVector(at(i), values.slice(i, i + 4), 'f32', { align: 16 });
    },
    take: () => {
      const values: Int[] = [];
      for (let i = 0; i < count; i += 4) {
        values.push(...results('load', FOUR, { args: [at(i)], attributes: { count: 4, align: 16 } }));
      }
      return values;
    },
  };
}

/**
 * Adds up the sums of leaves (pieces of a product's K) by a fixed binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).
 * They come in order, each a thread's values; as soon as both halves of a subtree are there they become one. So at most
 * log2(leaves) + 1 sums exist at a time, and whoever owns a subtree gets the sum that the whole tree has there.
 */
export class LeafTree {
  private readonly leaves: number;
  private readonly places: Readonly<Record<number, LevelPlace>>;
  private readonly waiting: (Int[] | 'placed' | undefined)[] = [];
  private count = 0;

  /**
   * @param leaves a power of two
   * @param places of levels that do not wait in registers: level l has sums of 2^l leaves
   */
  constructor(leaves: number, places: Readonly<Record<number, LevelPlace>> = {}) {
    if (!Number.isInteger(Math.log2(leaves))) throw new RangeError(`a tree has a power of two leaves, not ${leaves}`);
    this.leaves = leaves;
    this.places = places;
  }

  /** Adds the next leaf. After the last one: the sum of all; before that undefined. */
  add(values: readonly Int[]): Int[] | undefined {
    if (this.count >= this.leaves) throw new RangeError(`the tree has its ${this.leaves} leaves`);
    let sum = [...values];
    let level = 0;
    for (; (this.count >> level) % 2 === 1; level++) {
      const left = this.waiting[level];
      const first = left === 'placed' ? this.places[level].take() : left!;
      sum = sum.map((value, i) => combine('add', first[i], value));
      this.waiting[level] = undefined;
    }
    this.count += 1;
    if (this.count === this.leaves) return sum;
    const place = this.places[level];
    place?.put(sum);
    this.waiting[level] = place ? 'placed' : sum;
    return undefined;
  }
}
