import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  composition,
  groupModes,
  makeIdentityLayout,
  makeLayout,
  Swizzle,
  tileToShape,
  tiledDivide,
  tmaPartition,
} from '../src/layout/index.ts';

const shared = groupModes(
  tileToShape(composition(new Swizzle(3, 3, 3), makeLayout([8, 64], 'right')), [64, 128, 3]),
  0,
  2,
);
const global = tiledDivide(makeIdentityLayout([256, 512]), [64, 128]);

test('boxes of TMA name the same elements in shared and in global memory', () => {
  const [[coords, first], [offsets, at]] = tmaPartition({ elements: 64 * 64 }, shared, global) as [
    ReturnType<typeof tmaPartition>[0],
    ReturnType<typeof tmaPartition>[0],
  ];
  assert.deepEqual([first, at], [[0, 0], 0]);
  assert.deepEqual([coords.mode(0).size, offsets.mode(0).size], [64 * 128, 64 * 128]);
  for (let box = 0; box < 2; box += 1) {
    for (let i = 0; i < 64 * 64; i += 37) {
      const coord = coords.coordAt([i, box], 0, 0) as readonly number[];
      assert.equal(offsets.at([i, box], 0), shared.at([coord[0], coord[1]], 0));
      // Within a box shared memory is filled from one end to the other, before the swizzle.
      assert.deepEqual(coord, [Math.floor(i / 64), (i % 64) + 64 * box]);
    }
  }
});

test('with multicast each CTA begins at its share of a box', () => {
  const ctas = makeLayout(4);
  const starts = [0, 1, 2, 3].map((cta) => tmaPartition({ elements: 64 * 64, ctas, cta }, shared, global)[0][1]);
  assert.deepEqual(starts, [
    [0, 0],
    [16, 0],
    [32, 0],
    [48, 0],
  ]);
});

test('tiles of different size are refused', () => {
  const other = tiledDivide(makeIdentityLayout([256, 512]), [64, 64]);
  assert.throws(() => tmaPartition({ elements: 4096 }, shared, other), /the tiles have 8192 and 4096 elements/);
});
