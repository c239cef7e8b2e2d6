import {
  b32,
  e4m3,
  fenceAsync,
  Fragment,
  idiv,
  laneId,
  makeLayout,
  min,
  packWord,
  range,
  Ring,
  shared,
  syncWarp,
  tensorAt,
  tid,
  widenWord,
  type Consumer,
  type FilledStage,
  type Tensor,
} from '@rose/cute';
import { tileTokens, type PrefillOptions } from './prefill.ts';

/**
 * Tiles of e4m3 keys and values on their way to wgmma, which takes both operands in one type: TMA brings them as they lie in
 * the cache, and three warps make 16-bit elements of them, each exactly the number that it was.
 */

/** Warps of the loading warpgroup beside the one that loads, and the first of their threads. */
const WARPS = 3;
const FIRST = 288;
export const WIDEN_THREADS: number = 32 * WARPS;
/** Elements that a thread widens at once: a piece of 16 bytes of the wider type, of which the swizzle has 8 to a line. */
const VECTOR = 8;
const LINE_PIECES = 8;
/** Pieces that a thread widens side by side: one after the other they would wait for each step of each. */
const SIDE_BY_SIDE = 4;

/** The tiles as they come, keys and values in the order in which they are needed. */
export class NarrowTiles {
  readonly ring: Ring;
  readonly tiles: Tensor;
  private readonly head: number;
  private readonly tile: number;
  private readonly type: PrefillOptions['type'];

  constructor(head: number, type: PrefillOptions['type']) {
    this.head = head;
    this.tile = tileTokens(head);
    this.type = type;
    // What long heads leave room for.
    const stages = head === 256 ? 2 : 4;
    this.ring = new Ring({ stages, producer: { kind: 'tma' }, consumers: WARPS });
    this.tiles = shared(e4m3, stages * this.tile * head, { align: 128, name: 'narrow' });
  }

  /**
   * The three warps widen the next tile into a stage of the wider ones, to lie as TMA would have laid it.
   *
   * @param across elements of a row in one swizzled box
   */
  widen(came: Consumer, stage: FilledStage, to: Tensor, across: number): void {
    'use gpu';
    const { head, tile, type } = this;
    const from = came.wait();
    const [vectors, inBox] = [head / VECTOR, across / VECTOR];
    // All threads have whole rows at a time, so that each keeps its place in a row.
    const rows = WIDEN_THREADS / vectors;
    const row = idiv(tid() - FIRST, vectors);
    const piece = tid() - FIRST - row * vectors;
    const box = (piece >> Math.log2(inBox)) * (tile * across);
    for (const first of range(0, tile, rows * SIDE_BY_SIDE)) {
      // The last rows may be done several times.
      const some = Array.from({ length: SIDE_BY_SIDE }, (_none, i) => min(first + row + i * rows, tile - 1));
      const loaded = some.map((at) => {
        'use gpu';
        const place = this.tiles(from.index * (tile * head) + at * head + piece * VECTOR);
        return tensorAt(place.address, b32, makeLayout(VECTOR / 4)).load();
      });
      for (const [i, at] of some.entries()) {
        const wide = [0, 1].flatMap((word) => {
          'use gpu';
          const [a, b, c, d] = widenWord(loaded[i][word], 'e4m3');
          return [packWord(a, b, type), packWord(c, d, type)];
        });
        // The swizzle exchanges pieces by the number of their line.
        const turned = (piece ^ (at >> Math.log2(LINE_PIECES / inBox))) & (inBox - 1);
        const target = to(stage.index * (tile * head) + box + at * across + turned * VECTOR);
        tensorAt(target.address, b32, makeLayout(4)).store(new Fragment(wide, 'b32'));
      }
    }
    fenceAsync();
    stage.barrier.arrive();
    syncWarp();
    if (laneId() === 0) from.release();
  }
}
