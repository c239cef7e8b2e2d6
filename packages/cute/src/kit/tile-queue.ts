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
import { Ring } from './ring.ts';

/** Numbers that are on their way from who draws to who uses them. */
const AHEAD = 2;

/**
 * Tiles for CTAs that stay, in their order, each for the one that is free first: for tiles that take different times,
 * where `persistentTiles` would leave some CTAs with more work than others. Numbers come from a counter in global memory,
 * u32, zero before the launch; a launch leaves it at zero again. One thread draws them, warps get them through shared memory.
 * Which CTA computes a tile differs from run to run; what a tile is must not depend on it.
 */
export class TileQueue {
  private readonly ring: Ring;
  private readonly numbers: Value;

  /** @param warps that take the tiles */
  constructor(warps: number) {
    this.ring = new Ring({ stages: AHEAD, producer: { kind: 'tma' }, consumers: warps });
    this.numbers = sharedBytes('tiles', 4 * AHEAD, 4, 'i32');
  }

  /** One thread calls it; then `fenceBarrierInit()` and a barrier of the CTA. */
  init(): void {
    this.ring.init();
  }

  /** One thread draws tiles below `count`, hands each to those who take them and calls `body` with it. */
  draw(counter: Place, count: Int, body: (tile: Int) => void): void {
    const producer = this.ring.producer();
    const tile = newSlot('i32', 'tile');
    writeSlot(tile, special('ctaid.x'));
    loop(`draw${tile.id}`, (leave) => {
      const current = readSlot(tile);
      const stage = producer.acquire();
      storeTo(moved(this.numbers, stage.index, 4), current, 'i32');
      stage.barrier.arrive();
      when(compare('ge', current, count), leave);
      // As many draws as tiles: the last one wraps around to zero. Its answer comes while the tile is computed.
      const last = combine('sub', count, 1);
      const before = result('atomic', 'u32', {
        args: [
          addressIn(counter, ['ptr.global']),
          typed(result('bitcast', 'u32', { args: [typed(last, 'i32')] }), 'u32'),
        ],
        attributes: { function: 'inc', order: 'relaxed', scope: 'gpu' },
      });
      body(current);
      const drawn = result('bitcast', 'i32', { args: [typed(before, 'u32')] });
      writeSlot(tile, combine('add', drawn, special('nctaid.x')));
    });
  }

  /** Warps take the tiles that are drawn for their CTA. */
  take(count: Int, body: (tile: Int) => void): void {
    const consumer = this.ring.consumer();
    const taken = newSlot('i32', 'taken');
    loop(`take${taken.id}`, (leave) => {
      const stage = consumer.wait();
      writeSlot(taken, loadFrom(moved(this.numbers, stage.index, 4), 'i32'));
      const current = readSlot(taken);
      emit('warp_sync', { attributes: { mask: 0xffffffff } });
      when(compare('eq', special('laneid'), 0), () => stage.release());
      when(compare('ge', current, count), leave);
      body(current);
    });
  }
}
