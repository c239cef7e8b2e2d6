import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MMA_SHAPES, wgmmaShape } from '../src/atoms/mma-shapes.ts';
import {
  operandSlice,
  smemTile,
  swizzleMode,
  tileBoxes,
  tileCoordinates,
  tileMap,
  tmaTiles,
} from '../src/atoms/operand-tile.ts';
import { describeOperand, widestSwizzle } from '../src/atoms/smem-descriptor.ts';
import { tmemCell, tmemRegisters } from '../src/atoms/tcgen05-shapes.ts';
import { makeS2TCopy, makeTmemCopy, s2tAtom, TMEM_LANE, tmemAtom } from '../src/atoms/tmem-copies.ts';
import { ldmatrixAtom, mmaAtom, plainCopyAtom, stmatrixAtom, wgmmaAtom } from '../src/atoms/thread-values.ts';
import { makeComposedLayout } from '../src/layout/composed.ts';
import { Layout, makeLayout } from '../src/layout/layout.ts';
import { Swizzle } from '../src/layout/swizzle.ts';
import { makeTiledCopy, TiledCopy } from '../src/layout/tiled-copy.ts';
import { makeTiledCopyFor, TiledMma } from '../src/layout/tiled-mma.ts';
import { Unknown } from '../src/layout/unknown.ts';

function element(layout: Layout, thread: number, value: number): number {
  return Number(layout.at(thread, value));
}

function valuesOf(layout: Layout): number {
  return Number(layout.mode(1).size);
}

/** How often every element is held. */
function holders(layout: Layout, threads: number, elements: number): number[] {
  const counts = Array.from({ length: elements }, () => 0);
  for (let t = 0; t < threads; t++) {
    for (let v = 0; v < valuesOf(layout); v++) counts[element(layout, t, v)]++;
  }
  return counts;
}

test('mma.sync: the fragments are those of the figures, every element once', () => {
  for (const form of MMA_SHAPES) {
    const { m, n, k, registers } = form;
    const { a, b, c } = mmaAtom(form);
    const va = valuesOf(a) / registers.a;
    for (let lane = 0; lane < 32; lane++) {
      const [group, inGroup] = [Math.floor(lane / 4), lane % 4];
      for (let i = 0; i < valuesOf(a); i++) {
        const register = Math.floor(i / va);
        const row = group + (register % 2) * 8;
        const column = inGroup * va + (i % va) + Math.floor(register / 2) * 4 * va;
        assert.equal(element(a, lane, i), row + column * m, `${form.shape} A of ${form.a}`);
      }
      for (let i = 0; i < valuesOf(b); i++) {
        const depth = inGroup * va + (i % va) + Math.floor(i / va) * 4 * va;
        assert.equal(element(b, lane, i), group + depth * n, `${form.shape} B of ${form.b}`);
      }
      for (let i = 0; i < 4; i++) {
        assert.equal(element(c, lane, i), group + 8 * Math.floor(i / 2) + (inGroup * 2 + (i % 2)) * m);
      }
    }
    assert.ok(holders(a, 32, m * k).every((count) => count === 1));
    assert.ok(holders(b, 32, n * k).every((count) => count === 1));
    assert.ok(holders(c, 32, m * n).every((count) => count === 1));
  }
});

test('wgmma: four warps of 16 rows', () => {
  for (const [n, a, d] of [
    [8, 'bf16', 'f32'],
    [64, 'e4m3', 'f32'],
    [256, 'tf32', 'f32'],
  ] as const) {
    const form = wgmmaShape(n, { a, b: a, d });
    const layouts = wgmmaAtom(form, true);
    for (let t = 0; t < 128; t++) {
      for (let v = 0; v < n / 2; v++) {
        const row = 16 * Math.floor(t / 32) + Math.floor((t % 32) / 4) + 8 * (Math.floor(v / 2) % 2);
        const column = 8 * Math.floor(v / 4) + 2 * (t % 4) + (v % 2);
        assert.equal(element(layouts.c, t, v), row + 64 * column);
      }
    }
    assert.ok(holders(layouts.a, 128, 64 * form.k).every((count) => count === 1));
    assert.ok(holders(layouts.b, 128, n * form.k).every((count) => count === 128));
    assert.ok(holders(wgmmaAtom(form, false).a, 128, 64 * form.k).every((count) => count === 128));
  }
});

test('ldmatrix: lane i addresses row i and holds a pair of every matrix', () => {
  for (const count of [1, 2, 4] as const) {
    for (const transpose of [false, true]) {
      const { source, destination, reference } = ldmatrixAtom(count, transpose);
      for (let lane = 0; lane < 32; lane++) {
        const row = lane % (8 * count);
        assert.equal(element(source, lane, 5), row * 8 + 5);
        for (let value = 0; value < 2 * count; value++) {
          const [matrix, half] = [Math.floor(value / 2), value % 2];
          const [group, inGroup] = [Math.floor(lane / 4), lane % 4];
          const [r, c] = transpose ? [2 * inGroup + half, group] : [group, 2 * inGroup + half];
          assert.equal(element(destination, lane, value), matrix * 64 + r * 8 + c);
        }
      }
      assert.ok(holders(destination, 32, 64 * count).every((times) => times === 1));
      assert.equal(String(reference), String(destination));
      const stores = stmatrixAtom(count, transpose);
      assert.equal(String(stores.source), String(destination));
      assert.equal(String(stores.destination), String(source));
    }
  }
  assert.throws(() => ldmatrixAtom(1, true, 8), /transposed do not move 8-bit elements/);
  assert.equal(String(plainCopyAtom(8).source), '(1,8):(0,1)');
});

test('tiled copies and products take the atoms', () => {
  const form = MMA_SHAPES.find(({ shape, a, d }) => shape === 'm16n8k16' && a === 'bf16' && d === 'f32');
  assert.ok(form);
  const mma = new TiledMma(mmaAtom(form), makeLayout([2, 2, 1]));
  assert.equal(mma.size, 128);
  assert.deepEqual(
    [0, 1, 2].map((mode) => mma.tileSize(mode)),
    [32, 16, 16],
  );
  const copy = makeTiledCopyFor('A', ldmatrixAtom(4, false), mma);
  assert.ok(copy instanceof TiledCopy);
  // Lane 17 of warp 0 addresses row 1 of the matrix that begins at column 8.
  const [, offset] = copy.partitionS(makeLayout([32, 16], 'right'), 17);
  assert.equal(offset, 1 * 16 + 8);
  const vectors = makeTiledCopy(plainCopyAtom(8), makeLayout([16, 8], 'right'), makeLayout([1, 8], 'right'));
  assert.deepEqual(vectors.tileShape, [16, 64]);
});

test('the widest swizzle that divides a row', () => {
  assert.deepEqual(
    [64, 32, 16, 8, 24].map((n) => widestSwizzle(n, 16)),
    ['128', '64', '32', 'none', 'none'],
  );
  assert.throws(() => widestSwizzle(12, 16), /24 bytes/);
});

test('descriptors of the canonical layouts', () => {
  for (const swizzle of ['32', '64', '128'] as const) {
    const tile = smemTile('k', swizzle, 16, 64, 64);
    assert.equal(swizzleMode(tile, 16), swizzle);
    const stride = 8 * Number(swizzle);
    const expected = { leading: 16, stride, swizzle, major: 'k', bytes: 0 };
    assert.deepEqual(operandSlice(tile, 16, { rows: 64 }), expected);
    // K 16 lies in the same row, or behind all rows of the atoms before.
    const perRow = Number(swizzle) / 32;
    for (let k = 0; k < 64; k += 16) {
      const bytes = ((k / 16) % perRow) * 32 + Math.floor(k / 16 / perRow) * 64 * Number(swizzle);
      assert.deepEqual(operandSlice(tile, 16, { rows: 64, k }), { ...expected, bytes });
    }
  }
  // Without a swizzle the second 16 bytes of K lie behind all rows.
  assert.deepEqual(operandSlice(smemTile('k', 'none', 16, 64, 16), 16, { rows: 64 }), {
    ...{ leading: 1024, stride: 128, swizzle: 'none', major: 'k', bytes: 0 },
  });
  assert.deepEqual(operandSlice(smemTile('mn', '128', 16, 128, 64), 16, { rows: 128, k: 16 }), {
    ...{ leading: 8192, stride: 1024, swizzle: '128', major: 'mn', bytes: 2048 },
  });
  assert.deepEqual(operandSlice(smemTile('mn', '64', 16, 64, 16), 16, { rows: 64 }), {
    ...{ leading: 1024, stride: 512, swizzle: '64', major: 'mn', bytes: 0 },
  });
  assert.deepEqual(operandSlice(smemTile('mn', 'none', 16, 64, 16), 16, { rows: 64 }), {
    ...{ leading: 128, stride: 256, swizzle: 'none', major: 'mn', bytes: 0 },
  });
  // The second 64 of 128 rows, 8-bit elements.
  assert.deepEqual(operandSlice(smemTile('k', '128', 8, 128, 128), 8, { row: 64, rows: 64, k: 32 }), {
    ...{ leading: 16, stride: 1024, swizzle: '128', major: 'k', bytes: 64 * 128 + 32 },
  });
});

test('other layouts are refused with the reason', () => {
  const swizzle = new Swizzle(3, 3, 3);
  const slice = (layout: Parameters<typeof operandSlice>[0]): unknown => operandSlice(layout, 16, { rows: 64 });
  const padded = makeComposedLayout(swizzle, 0, new Layout([64, 64], [72, 1]));
  assert.throws(() => slice(padded), /element \(1, 0\) lies at 72, .* reads it at 64/);
  assert.throws(() => slice(new Layout([64, 64], [128, 2])), /neither K nor/);
  assert.throws(
    () => slice(makeComposedLayout(new Swizzle(2, 3, 3), 0, new Layout([64, 64], [64, 1]))),
    /element \(1, 0\) lies at 64, .* at 32/,
  );
  assert.throws(
    () => slice(makeComposedLayout(new Swizzle(3, 4, 3), 0, new Layout([64, 64], [64, 1]))),
    /S<1\|2\|3,3,3>/,
  );
  assert.throws(() => slice(makeComposedLayout(swizzle, 64, new Layout([64, 64], [64, 1]))), /has an offset/);
  assert.throws(() => slice(new Layout([64, 64], [new Unknown(), 1])), /known while tracing/);
  assert.throws(() => slice(makeLayout([32, 16])), /leave the tile of 32 x 16/);
  assert.throws(
    () => operandSlice(smemTile('mn', '128', 8, 128, 64), 8, { rows: 128 }),
    /contiguous K: store it transposed/,
  );
  const odd = {
    rows: 12,
    depth: 16,
    bits: 16,
    swizzle: '128',
    offset: (row: number, k: number) => 64 * row + k,
  } as const;
  assert.throws(() => describeOperand(odd), /rows in eights/);
});

test('tiles of a tensor: coordinates, innermost first', () => {
  const tiles = tmaTiles([256, 1024], [64, 32]);
  assert.equal(String(tiles), '(4,32):(64@1,32@0)');
  assert.deepEqual(tileCoordinates(tiles, 2, 5), [160, 128]);
  assert.deepEqual(tileCoordinates(tmaTiles([256, 1024], [64, 32], [0, 1]), 2, 5), [128, 160]);
  assert.deepEqual(tileCoordinates(tmaTiles([4, 100, 64], [1, 32, 64]), 3, 2, 0), [0, 64, 3]);
  assert.throws(() => tmaTiles([4, 4], [2]), /2 modes .* boxes of 1/);
});

test('the boxes that fill a tile', () => {
  assert.deepEqual(tileBoxes(smemTile('k', '128', 16, 64, 128), 16), {
    box: [64, 64],
    swizzle: '128',
    starts: [
      { bytes: 0, shift: 0 },
      { bytes: 8192, shift: 64 },
    ],
  });
  assert.deepEqual(tileBoxes(smemTile('mn', '64', 16, 64, 16), 16), {
    box: [32, 16],
    swizzle: '64',
    starts: [
      { bytes: 0, shift: 0 },
      { bytes: 1024, shift: 32 },
    ],
  });
  assert.deepEqual(tileBoxes(smemTile('k', 'none', 16, 8, 16), 16).box, [8, 8]);
  const boxes = tileBoxes(smemTile('k', '128', 16, 64, 128), 16);
  assert.deepEqual(tileMap('bf16', [4096, 1000], boxes), {
    ...{ element: 'bf16', shape: [4096, 1000], box: [64, 64], swizzle: '128' },
  });
  assert.deepEqual(tileMap('bf16', [4096, 1000], boxes, 8320).strides, [8320]);
  assert.throws(() => tileBoxes(smemTile('k', '128', 16, 512, 64), 16), /at most 256 rows, the tile 512/);
  assert.throws(() => tileBoxes(new Layout([64, 16], [24, 1]), 16), /no TMA box fills/);
});

test('tiled copies of tensor memory: every lane has the words of the access, every warp its 32 lanes', () => {
  const d = new Layout([128, 64], [TMEM_LANE, 1]);
  const places = makeLayout([128, 64]);
  const accesses = [
    ['32x32b', 8],
    ['16x64b', 4],
    ['16x128b', 2],
    ['16x256b', 2],
  ] as const;
  for (const [shape, repeat] of accesses) {
    for (const direction of ['load', 'store'] as const) {
      const copy = makeTmemCopy(direction, shape, repeat, d);
      assert.equal(copy.size, 128);
      for (const thread of [0, 1, 5, 31, 37, 64, 127]) {
        const [mine, first] = direction === 'load' ? copy.partitionD(places, thread) : copy.partitionS(places, thread);
        const words = tmemRegisters(shape, repeat);
        for (let i = 0; i < words; i++) {
          const cell = tmemCell(shape, thread % 32, i);
          const at = (first as number) + (mine.at(i, 0, 0) as number);
          assert.deepEqual([at % 128, Math.floor(at / 128)], [32 * (thread >> 5) + cell.lane, cell.column]);
        }
      }
    }
  }
  assert.throws(() => tmemAtom('load', '16x32bx2', 1), /two accesses/);
});

test('a copy from shared to tensor memory gives every row to its lanes', () => {
  const scales = new Layout([[32, 4], 4], [[TMEM_LANE, 32 * TMEM_LANE], 1]);
  const copy = makeS2TCopy('32x128b', 'warpx4', scales);
  const rows = copy.threadValuesS(new Layout([[32, 4], 4], [[1, 32], 128]));
  // (thread, ((word, row, copy), 1), rest): copies read the same row.
  for (const [word, row, lanes] of [
    [0, 0, 0],
    [3, 5, 2],
  ]) {
    assert.equal(rows.at([0, [[word, row, lanes], 0], 0]), 128 * word + row);
  }
  assert.throws(() => s2tAtom('4x256b'), /no tiled copy/);
});
