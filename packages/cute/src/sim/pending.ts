import type { Node } from '../ir/ir.ts';
import type { Warp } from './machine.ts';

/** Bytes [start, end) that an asynchronous operation works on until it has ended. */
export interface PendingRange {
  readonly start: number;
  readonly end: number;
  readonly writes: boolean;
  readonly node: Node;
  readonly warp: Warp;
  readonly lane: number;
}

/** Bytes that are counted together: 2^6. */
const SHIFT = 6;

/**
 * The ranges of a region that asynchronous operations work on. Every access asks whether it touches one; stages of a
 * pipeline are many, and most accesses touch none.
 */
export class PendingRanges {
  /** In the order in which they began. */
  readonly list: PendingRange[] = [];
  private readonly bytes: number;
  /** How many ranges touch each group of bytes; there from the first range on. */
  private counts: Int32Array | undefined;

  /** @param bytes of the region */
  constructor(bytes: number) {
    this.bytes = bytes;
  }

  add(range: PendingRange): void {
    this.list.push(range);
    this.count(range, 1);
  }

  /** @returns whether it was there */
  remove(range: PendingRange): boolean {
    const at = this.list.indexOf(range);
    if (at < 0) return false;
    this.list.splice(at, 1);
    this.count(range, -1);
    return true;
  }

  /** False: none of them has any of these bytes. */
  near(start: number, bytes: number): boolean {
    const { counts } = this;
    if (counts === undefined || this.list.length === 0) return false;
    const last = (start + bytes - 1) >> SHIFT;
    for (let i = start >> SHIFT; i <= last; i++) if (counts[i] !== 0) return true;
    return false;
  }

  private count({ start, end }: PendingRange, by: 1 | -1): void {
    this.counts ??= new Int32Array((this.bytes >> SHIFT) + 1);
    for (let i = start >> SHIFT; i <= (end - 1) >> SHIFT; i++) this.counts[i] += by;
  }
}
