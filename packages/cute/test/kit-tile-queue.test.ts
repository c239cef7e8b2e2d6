import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceBarrierInit } from '../src/atoms/barrier.ts';
import { clusterSync } from '../src/atoms/cluster.ts';
import { _ } from '../src/layout/index.ts';
import { TileQueue } from '../src/kit/tile-queue.ts';
import { runPasses } from '../src/passes/passes.ts';
import type { SimulatorOptions } from '../src/sim/api.ts';
import { simulate } from '../src/sim/simulate.ts';
import { atomicUpdate, clusterRank, i32, kernel, laneId, tid, u32, warpId, type Tensor } from '../src/trace/index.ts';

const SCHEDULES: readonly SimulatorOptions[] = [
  { schedule: 'round-robin' },
  { schedule: 'late' },
  { schedule: 'random', seed: 3 },
];

/** Warp 2 of a cluster deals, its warps 0 and 1 take, and so does a thread of warp 3; all count how often a tile came. */
function counted(tiles: number, ctas: number): ReturnType<typeof runPasses> {
  return runPasses(
    kernel(
      { name: 'counted', params: { seen: u32.tensor(3, 16), counter: u32.tensor(1) }, threads: 128, cluster: ctas },
      ({ seen, counter }: { seen: Tensor<u32>; counter: Tensor<u32> }) => {
        'use gpu';
        const queue = new TileQueue({ takers: 3, ctas });
        if (tid() === 0) {
          queue.init();
          fenceBarrierInit();
        }
        clusterSync();
        const count = (row: i32, tile: i32): void => {
          'use gpu';
          atomicUpdate(seen(row, _).tile(1, tile), 'add', u32(1));
        };
        if (warpId() === 2) {
          if (tid() === 64 && clusterRank() === 0) queue.deal(counter, tiles);
        } else if (warpId() === 3) {
          if (tid() === 96) queue.take(tiles, (tile) => count(i32(2), tile), { alone: true });
        } else {
          queue.take(tiles, (tile) => {
            'use gpu';
            if (laneId() === 0) count(warpId(), tile);
          });
        }
        clusterSync();
      },
    ).trace({}),
  );
}

test('a queue hands each tile to one cluster, all of its takers, and leaves the counter at zero', () => {
  for (const [tiles, ctas] of [
    [1, 1],
    [13, 1],
    [2, 2],
    [9, 2],
  ]) {
    const ir = counted(tiles, ctas);
    for (const options of SCHEDULES) {
      const args = { seen: new Uint32Array(48), counter: new Uint32Array(1) };
      const { findings } = simulate(ir, { grid: [6, 1, 1], args, options });
      assert.deepEqual(findings, []);
      assert.deepEqual(
        [...args.seen],
        Array.from({ length: 48 }, (_none, i) => (i % 16 < tiles ? ctas : 0)),
      );
      assert.deepEqual([...args.counter], [0]);
    }
  }
  assert.throws(() => counted(2, 3), /power of two CTAs, not 3/);
});
