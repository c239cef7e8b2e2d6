import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceBarrierInit } from '../src/atoms/barrier.ts';
import { _ } from '../src/layout/index.ts';
import { TileQueue } from '../src/kit/tile-queue.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorOptions } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { atomicUpdate, i32, kernel, laneId, sync, tid, u32, warpId, type Tensor } from '../src/trace/index.ts';

const SCHEDULES: readonly SimulatorOptions[] = [
  { schedule: 'round-robin' },
  { schedule: 'late' },
  { schedule: 'random', seed: 3 },
];

/** Warp 2 of each CTA draws, warps 0 and 1 take; both count how often a tile came. */
function counted(tiles: number): ReturnType<typeof runPasses> {
  return runPasses(
    kernel(
      { name: 'counted', params: { seen: u32.tensor(3, 16), counter: u32.tensor(1) }, threads: 96 },
      ({ seen, counter }: { seen: Tensor<u32>; counter: Tensor<u32> }) => {
        'use gpu';
        const queue = new TileQueue(2);
        if (tid() === 0) {
          queue.init();
          fenceBarrierInit();
        }
        sync();
        const at = (row: i32, tile: i32): Tensor<u32> => {
          'use gpu';
          return seen(row, _).tile(1, tile);
        };
        if (warpId() === 2) {
          if (tid() === 64) queue.draw(counter, tiles, (tile) => atomicUpdate(at(i32(2), tile as i32), 'add', u32(1)));
        } else {
          queue.take(tiles, (tile) => {
            'use gpu';
            if (laneId() === 0) atomicUpdate(at(warpId(), tile as i32), 'add', u32(1));
          });
        }
      },
    ).trace({}),
  );
}

test('a queue hands each tile to one CTA, all of its warps, and leaves the counter at zero', () => {
  for (const tiles of [1, 2, 13]) {
    const ir = counted(tiles);
    for (const options of SCHEDULES) {
      const args = { seen: new Uint32Array(48), counter: new Uint32Array(1) };
      const { findings } = simulate(ir, { grid: [3, 1, 1], args, options });
      assert.deepEqual(findings, []);
      assert.deepEqual(
        [...args.seen],
        Array.from({ length: 48 }, (_none, i) => Number(i % 16 < tiles)),
      );
      assert.deepEqual([...args.counter], [0]);
    }
  }
});
