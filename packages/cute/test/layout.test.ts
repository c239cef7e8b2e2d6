import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  LayoutError,
  Swizzle,
  Unknown,
  _,
  coalesce,
  complement,
  composition,
  cosize,
  logicalDivide,
  makeLayout,
  slice,
  sliceAndOffset,
  zippedDivide,
} from '../src/layout/index.ts';

test('a layout maps coordinates of every form, and does not wrap its last mode', () => {
  const layout = makeLayout([4, [2, 3]], [3, [12, 1]]);
  assert.equal(String(layout), '(4,(2,3)):(3,(12,1))');
  assert.equal(layout.at(2, [1, 2]), 2 * 3 + 12 + 2);
  assert.equal(layout.at(2 + 4 * (1 + 2 * 2)), 2 * 3 + 12 + 2);
  assert.equal(layout.at(2, 5), 2 * 3 + 12 + 2);
  assert.equal(layout.at(24), 3);
  assert.equal(cosize(layout), 9 + 12 + 2 + 1);
});

test('compact layouts give extents of 1 the stride 0', () => {
  assert.equal(String(makeLayout([4, 1, 3])), '(4,1,3):(1,0,4)');
  assert.equal(String(makeLayout([4, 1, 3], 'right')), '(4,1,3):(3,0,1)');
});

test('what is not a layout is refused with a reason', () => {
  assert.throws(() => makeLayout([4, 0]), new LayoutError('an extent is a whole number of at least 1, not 0'));
  assert.throws(() => makeLayout([4, 2], [1]), /not congruent/);
  assert.throws(() => makeLayout([4, 2], [1, 0.5]), /a stride is a whole number, not 0.5/);
  assert.throws(() => makeLayout([4, 2]).at(1, [1, 1]), /does not fit the shape/);
});

test('composition follows C++ where pycute differs', () => {
  assert.equal(String(composition(makeLayout([4, 1], [1, 0]), makeLayout(8))), '(4,2):(1,0)');
  assert.equal(String(composition(makeLayout([8, 8], [1, 8]), makeLayout([4, 2], [2, 1]))), '(4,2):(2,1)');
  assert.equal(String(composition(makeLayout([6, 2], [8, 2]), makeLayout([4, 3], [3, 1]))), '((2,2),3):((24,2),8)');
  assert.throws(() => composition(makeLayout([4, 8], [2, 1]), makeLayout(33, 5)), /neither below the extent 4/);
  assert.throws(() => composition(makeLayout([4, 6], [1, 10]), makeLayout(6)), /6 is not a multiple of 4/);
});

test('a tuple of tilers drops the modes it does not name', () => {
  assert.equal(String(composition(makeLayout([4, 6, 8]), [2, 3])), '(2,3):(1,4)');
  assert.equal(String(composition(makeLayout([4, 6, 8]), [_, makeLayout(3, 2)])), '(4,3):(1,8)');
});

test('divisors make dynamic extents composable', () => {
  const rows = new Unknown(4);
  assert.equal(String(composition(makeLayout([rows, 8], [8, 1]), 4)), '4:8');
  assert.equal(String(zippedDivide(makeLayout([rows, 8], [8, 1]), [4, 8])), '((4,8),(?,1)):((8,1),(32,0))');
  assert.throws(() => composition(makeLayout([new Unknown(), 8], [8, 1]), 4), /give the dynamic extent a divisor/);
});

test('divisions', () => {
  assert.equal(String(logicalDivide(makeLayout(16), 4)), '(4,4):(1,4)');
  assert.equal(String(zippedDivide(makeLayout([8, 6]), [4, 3])), '((4,3),(2,2)):((1,8),(4,24))');
  assert.equal(String(complement(makeLayout(4, 2), 24)), '(2,3):(1,8)');
  assert.equal(String(coalesce(makeLayout([2, [1, 6]], [1, [6, 2]]))), '12:1');
});

test('slices keep the place', () => {
  assert.equal(String(slice([_, 3], makeLayout([8, 8], [1, 8]))), '(8):(1)');
  assert.deepEqual(sliceAndOffset([_, 3], makeLayout([8, 8], [1, 8]))[1], 24);
});

test('a slice of a swizzled layout is exact, decayed or not', () => {
  for (const swizzle of [new Swizzle(3, 4, 3), new Swizzle(2, 0, 3), new Swizzle(1, 2, -2), new Swizzle(3, 3, 3)]) {
    for (const inner of [makeLayout([8, 64], [64, 1]), makeLayout([8, [8, 8]], [8, [1, 64]]), makeLayout([6, 20])]) {
      const layout = composition(swizzle, inner);
      for (let i = 0; i < 6; i += 1) {
        const [row, rowAt] = sliceAndOffset([i, _], layout);
        for (let j = 0; j < 20; j += 1) assert.equal((row.at([j]) as number) + (rowAt as number), layout.at(i, j));
        const [column, columnAt] = sliceAndOffset([_, i], layout);
        for (let j = 0; j < 6; j += 1) assert.equal((column.at([j]) as number) + (columnAt as number), layout.at(j, i));
      }
    }
  }
});
