import { mbarriers, type MBarriers } from '../atoms/barrier.ts';
import { mapShared } from '../atoms/cluster.ts';
import {
  addressIn,
  combine,
  compare,
  emit,
  loadFrom,
  loop,
  moved,
  newSlot,
  readSlot,
  result,
  sharedBytes,
  special,
  storeTo,
  typed,
  when,
  writeSlot,
  type Int,
  type Place,
} from '../atoms/record.ts';
import type { Value } from '../ir/ir.ts';
import { Cursor } from './ring.ts';

/** Numbers that are on their way from who deals to those who take. */
const AHEAD = 2;

export interface TileQueueOptions {
  /** Warps and single threads of a CTA that take tiles. */
  readonly takers: number;
  /** CTAs of a cluster, which all get the same tiles; a power of two. Default 1. All threads of all meet in `clusterSync` at the end. */
  readonly ctas?: number;
}

/**
 * Tiles for CTAs that stay, in their order, each for the CTA or cluster that is free first: for tiles that take different
 * times, where `persistentTiles` would leave some with more work than others. Numbers come from a counter in global memory,
 * u32, zero before the launch; a launch leaves it at zero again. One thread of a cluster deals; the others take them from
 * shared memory. Who computes a tile differs from run to run: what a tile is must not depend on it.
 */
export class TileQueue {
  private readonly takers: number;
  private readonly ctas: number;
  private readonly numbers: Value;
  private readonly full: MBarriers;
  private readonly empty: MBarriers;

  constructor({ takers, ctas = 1 }: TileQueueOptions) {
    if (!Number.isInteger(Math.log2(ctas)))
      throw new RangeError(`tiles are dealt to clusters of a power of two CTAs, not ${ctas}`);
    this.takers = takers;
    this.ctas = ctas;
    this.numbers = sharedBytes('tiles', 4 * AHEAD, 4, 'i32');
    this.full = mbarriers(AHEAD, 'dealt');
    this.empty = mbarriers(AHEAD, 'taken');
  }

  /** One thread of each CTA calls it; then `fenceBarrierInit()` and a barrier of the CTA, or the cluster. */
  init(): void {
    this.full.init(1);
    this.empty.init(this.takers * this.ctas);
  }

  /** One thread of the cluster's first CTA deals the tiles below `count`. */
  deal(counter: Place, count: Int): void {
    const cursor = new Cursor(AHEAD, 1);
    const tile = newSlot('i32', 'tile');
    const clusters = (of: Int): Int => (this.ctas === 1 ? of : combine('shr', of, Math.log2(this.ctas)));
    writeSlot(tile, clusters(special('ctaid.x')));
    loop(`deal${tile.id}`, (leave) => {
      const current = readSlot(tile);
      const { index, phase } = cursor.next();
      this.empty.at(index).wait(phase, this.scope());
      for (let rank = 0; rank < this.ctas; rank++) {
        const place = moved(this.numbers, index, 4);
        const full = this.full.at(index);
        storeTo(this.ctas === 1 ? place : mapShared(place, rank), current, 'i32');
        (this.ctas === 1 ? full : full.on(rank)).arrive();
      }
      when(compare('ge', current, count), leave);
      // As many draws as tiles: the last one wraps around to zero.
      const last = result<Value>('bitcast', 'u32', { args: [typed(combine('sub', count, 1), 'i32')] });
      const before = result<Value>('atomic', 'u32', {
        args: [addressIn(counter, ['ptr.global']), last],
        attributes: { function: 'inc', order: 'relaxed', scope: 'gpu' },
      });
      const drawn = result('bitcast', 'i32', { args: [before] });
      writeSlot(tile, combine('add', drawn, clusters(special('nctaid.x'))));
    });
  }

  /** A warp takes the tiles of its CTA; `alone`: one thread does. */
  take(count: Int, body: (tile: Int) => void, { alone = false }: { readonly alone?: boolean } = {}): void {
    const cursor = new Cursor(AHEAD, 0);
    const tile = newSlot('i32', 'tile');
    loop(`take${tile.id}`, (leave) => {
      const { index, phase } = cursor.next();
      this.full.at(index).wait(phase, this.scope());
      writeSlot(tile, loadFrom(moved(this.numbers, index, 4), 'i32'));
      const current = readSlot(tile);
      const empty = this.empty.at(index);
      const taken = (): void => (this.ctas === 1 ? empty : empty.on(0)).arrive(1, { scope: 'cta' });
      if (alone) taken();
      else {
        emit('warp_sync', { attributes: { mask: 0xffffffff } });
        when(compare('eq', special('laneid'), 0), taken);
      }
      when(compare('ge', current, count), leave);
      body(current);
    });
  }

  private scope(): { scope?: 'cluster' } {
    return this.ctas === 1 ? {} : { scope: 'cluster' };
  }
}
