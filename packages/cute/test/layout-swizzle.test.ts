import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  E,
  LayoutError,
  ScaledBasis,
  Swizzle,
  Unknown,
  _,
  blockedProduct,
  composition,
  downcast,
  leftInverse,
  localPartition,
  localTile,
  logicalProduct,
  makeComposedLayout,
  makeIdentityLayout,
  makeLayout,
  makeLayoutTV,
  makeSwizzle,
  maxAlignment,
  maxCommonLayout,
  maxCommonVector,
  multicastMask,
  productWithSwizzle,
  recast,
  rightInverse,
  sliceAndOffset,
  smemLayoutAtom,
  tileToShape,
  transferSwizzle,
  upcast,
  zippedDivide,
  type ComposedLayout,
} from '../src/layout/index.ts';

const atom = composition(new Swizzle(3, 3, 3), makeLayout([8, 64], 'right'));

test('a swizzle is its own inverse and exchanges pieces of a row', () => {
  for (const swizzle of [new Swizzle(3, 4, 3), new Swizzle(2, 1, 5), new Swizzle(2, 0, -3), new Swizzle(0, 4, 3)]) {
    const seen = new Set<unknown>();
    for (let x = 0; x < 4096; x += 1) {
      const y = swizzle.apply(x);
      assert.equal(swizzle.apply(y), x);
      seen.add(y);
    }
    assert.equal(seen.size, 4096);
  }
  assert.equal(new Swizzle(3, 4, 3).apply(3 * 128 + 5), (3 * 128 + 5) ^ (3 << 4));
});

test('swizzles of bits that overlap or do not pair are refused', () => {
  assert.throws(() => new Swizzle(3, 0, 2), /the shift must be at least the number of bits, 3/);
  assert.throws(() => new Swizzle(-1, 0, 2), /at least 0/);
  assert.throws(() => makeSwizzle(0b1100, 0b1), /no swizzle moves the 2 bits/);
  assert.equal(String(makeSwizzle(0b11000000, 0b110)), 'S<2,1,5>');
  assert.equal(String(makeSwizzle(0b1000, 0b100)), 'S<1,2,1>');
});

test('slices of a swizzled layout: decayed where they may, with the offset apart', () => {
  const big = tileToShape(atom, [16, 128]);
  assert.equal(String(big), 'S<3,3,3> o 0 o ((8,2),(64,2)):((64,512),(1,1024))');
  assert.deepEqual(sliceAndOffset([3, _], atom).map(String), ['((8,4,2)):((1,-8,32))', '216']);
  assert.deepEqual(sliceAndOffset([_, 9], atom).map(String), ['((2,4)):((56,144))', '9']);
  assert.deepEqual(sliceAndOffset([[3, 1], _], big).map(String), ['(((8,4,2),2)):(((1,-8,32),1024))', '728']);
  assert.deepEqual(sliceAndOffset([_, [_, 1]], big).map(String), ['S<3,3,3> o 0 o ((8,2),64):((64,512),1)', '1024']);
});

test('a slice at an unknown row has strides that depend on it, or stays composed', () => {
  const [row, at] = sliceAndOffset([new Unknown(), _], atom);
  assert.match(String(row), /^\(\(8,\(?2.*\?/);
  assert.match(String(at), /^\?/);
  const odd = composition(new Swizzle(3, 3, 3), makeLayout([6, 64], [64, 1]));
  assert.match(String(sliceAndOffset([new Unknown(), _], odd)[0]), /^S<3,3,3> o \?\{div=64\} o \(64\):\(1\)$/);
});

test('inverses, recast and vectors of swizzled layouts', () => {
  assert.equal(String(rightInverse(atom)), 'S<3,0,-6> o 0 o (64,8):(8,1)');
  assert.equal(String(leftInverse(atom)), 'S<3,0,-6> o 0 o (64,8):(8,1)');
  const inverse = rightInverse(atom);
  for (let i = 0; i < 512; i += 1) assert.equal(atom.at(inverse.at(i)), i);
  assert.equal(String(upcast(atom, 8)), 'S<3,0,3> o 0 o (8,8):(8,1)');
  assert.equal(String(downcast(atom, 2)), 'S<3,4,3> o 0 o (8,128):(128,1)');
  assert.equal(String(recast(atom, 16, 32)), 'S<3,2,3> o 0 o (8,32):(32,1)');
  assert.equal(maxCommonVector(atom, makeLayout([8, 64], 'right')), 8);
  assert.equal(String(maxCommonLayout(atom, makeLayout([8, 64], 'right'))), '8:8');
  assert.equal(maxCommonVector(atom, atom), 512);
  assert.equal(maxAlignment(atom), 8);
  assert.throws(() => rightInverse(makeComposedLayout(new Swizzle(3, 3, 3), 4, makeLayout(64))), /it must be 0 here/);
});

test('a swizzle on the right passes through a layout, or is refused', () => {
  assert.equal(
    String(composition(makeLayout([8, 64], 'right'), new Swizzle(1, 1, 3))),
    'S<1,1,-6> o 0 o (8,64):(64,1)',
  );
  for (const [layout, swizzle] of [
    [makeLayout([8, 64], 'right'), new Swizzle(1, 1, 3)],
    [makeLayout([64, 8], 'right'), new Swizzle(3, 3, 3)],
    [makeLayout([2, 2, 2, 2], [8, 4, 2, 1]), new Swizzle(1, 0, 2)],
    [makeLayout([4, 4, 3], [4, 1, 16]), new Swizzle(2, 0, 2)],
  ] as const) {
    const passed = composition(layout, swizzle);
    for (let i = 0; i < (layout.size as number); i += 1) assert.equal(passed.at(i), layout.at(swizzle.apply(i)));
  }
  assert.throws(
    () => composition(makeLayout([2, 2, 2, 2], [1, 2, 8, 4]), new Swizzle(2, 0, 2)),
    /is no swizzle before a layout/,
  );
  assert.throws(() => composition(makeLayout([3, 8], 'right'), new Swizzle(1, 0, 2)), LayoutError);
  const product = productWithSwizzle(
    makeLayout([4]),
    composition(new Swizzle(2, 0, 3), makeLayout([8, 8], 'right')) as ComposedLayout,
  );
  assert.equal(String(product), 'S<2,2,3> o 0 o ((4),(8,8)):((1),(32,4))');
  const moved = transferSwizzle(new Swizzle(2, 0, 3), makeLayout([8, 8], 'right'), makeLayout([8, 8], [32, 4]));
  assert.equal(String(moved), 'S<2,2,3> o 0 o (8,8):(32,4)');
});

test("Hopper's atoms of shared memory", () => {
  assert.equal(String(smemLayoutAtom('k', 128, 16)), 'S<3,3,3> o 0 o (8,64):(64,1)');
  assert.equal(String(smemLayoutAtom('k', 128, 8)), 'S<3,4,3> o 0 o (8,128):(128,1)');
  assert.equal(String(smemLayoutAtom('k', 64, 16)), 'S<2,3,3> o 0 o (8,32):(32,1)');
  assert.equal(String(smemLayoutAtom('mn', 32, 16)), 'S<1,3,3> o 0 o (16,8):(1,16)');
  assert.equal(String(smemLayoutAtom('k', 16, 32)), '(8,4):(4,1)');
});

test('coordinate layouts map to coordinates, through tiles as well', () => {
  const identity = makeIdentityLayout([128, [4, 6]]);
  assert.equal(String(identity), '(128,(4,6)):(1@0,(1@0@1,1@1@1))');
  assert.deepEqual(identity.coordAt(5, [3, 2]), [5, [3, 2]]);
  assert.deepEqual(identity.coordAt(5 + 128 * (3 + 4 * 2)), [5, [3, 2]]);
  assert.throws(() => identity.at(1), /maps to coordinates/);
  const [tile, at] = localTile(makeIdentityLayout([128, 96]), [32, 16], [2, 3]);
  assert.equal(String(tile), '(32,16):(1@0,1@1)');
  assert.deepEqual(at, [64, 48]);
  assert.equal(String(composition(makeLayout([8, 6], [6, 1]), makeIdentityLayout([8, 6]))), '(8,6):(6,1)');
  assert.equal(
    String(composition(makeLayout([8, 6], [6, 1]), makeLayout([2, 3], [new ScaledBasis(2, [1]), E(0)]))),
    '(2,3):(2,6)',
  );
});

test('tiles and partitions', () => {
  const rows = makeLayout([256, 128], 'right');
  assert.deepEqual(localTile(rows, [64, 32], [1, 2]).map(String), ['(64,32):(128,1)', String(64 * 128 + 64)]);
  assert.deepEqual(localTile(rows, [64, 32, 16], [1, 2, _], [1, _, 1]).map(String), ['(64,16,8):(128,1,16)', '8192']);
  const threads = makeLayout([4, 8], 'right');
  assert.deepEqual(localPartition(makeLayout([16, 64], 'right'), threads, 9).map(String), ['(4,8):(256,8)', '65']);
});

test('thread-value layouts and multicast masks', () => {
  const { tiler, layout } = makeLayoutTV(makeLayout([4, 8], 'right'), makeLayout([2, 2], 'right'));
  assert.deepEqual(tiler, [8, 16]);
  assert.equal(layout.at(9, 3), 2 * 1 + 1 + 8 * (2 * 1 + 1));
  assert.throws(() => makeLayoutTV(makeLayout([4, 8], [16, 1]), makeLayout(2)), /must be compact/);
  const cluster = makeLayout([2, 4]);
  assert.equal(multicastMask(cluster, [1, 2], 1), 0b10101010);
  assert.equal(multicastMask(cluster, [1, 2], 0), 0b110000);
  assert.equal(multicastMask(cluster, [1, 2]), 1 << 5);
});

test('operations on the domain of a composed layout keep its function', () => {
  const divided = zippedDivide(atom, [4, 16]);
  for (let i = 0; i < 8; i += 1) {
    for (let j = 0; j < 64; j += 1) {
      assert.equal(divided.at([i % 4, j % 16], [Math.floor(i / 4), Math.floor(j / 16)]), atom.at(i, j));
    }
  }
  assert.equal(String(logicalProduct(atom, 2)), 'S<3,3,3> o 0 o ((8,64),2):((64,1),512)');
  assert.equal(String(blockedProduct(atom, makeLayout([1, 2]))), 'S<3,3,3> o 0 o ((8,1),(64,2)):((64,0),(1,512))');
});
