import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MMA_SHAPES, wgmmaShape } from '../src/atoms/mma-shapes.ts';
import { smemAtom, widestSwizzle } from '../src/atoms/smem-atoms.ts';
import { describeOperand } from '../src/atoms/smem-descriptor.ts';
import {
  ldmatrixThreadValues,
  mmaThreadValues,
  stmatrixThreadValues,
  wgmmaThreadValues,
  type LayoutNumbers,
  type Numbers,
} from '../src/atoms/thread-values.ts';

function size(shape: Numbers): number {
  return typeof shape === 'number' ? shape : shape.reduce((product: number, mode) => product * size(mode), 1);
}

/** The index of a coordinate counted first mode fastest. */
function at(shape: Numbers, stride: Numbers, index: number): number {
  if (typeof shape === 'number') return index * Number(stride);
  let rest = index;
  let sum = 0;
  for (const [i, mode] of shape.entries()) {
    sum += at(mode, (stride as Numbers[])[i], rest % size(mode));
    rest = Math.floor(rest / size(mode));
  }
  return sum;
}

function element({ shape, stride }: LayoutNumbers, thread: number, value: number): number {
  const [threads, values] = shape as Numbers[];
  const [dt, dv] = stride as Numbers[];
  return at(threads, dt, thread) + at(values, dv, value);
}

function valuesOf(layout: LayoutNumbers): number {
  return size((layout.shape as Numbers[])[1]);
}

/** How often every element is held. */
function holders(layout: LayoutNumbers, threads: number, elements: number): number[] {
  const counts = Array.from({ length: elements }, () => 0);
  for (let t = 0; t < threads; t++) {
    for (let v = 0; v < valuesOf(layout); v++) counts[element(layout, t, v)]++;
  }
  return counts;
}

test('mma.sync: the fragments are those of the figures, every element once', () => {
  for (const form of MMA_SHAPES) {
    const { m, n, k, registers } = form;
    const { a, b, c } = mmaThreadValues(form);
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
    const layouts = wgmmaThreadValues(form, true);
    for (let t = 0; t < 128; t++) {
      for (let v = 0; v < n / 2; v++) {
        const row = 16 * Math.floor(t / 32) + Math.floor((t % 32) / 4) + 8 * (Math.floor(v / 2) % 2);
        const column = 8 * Math.floor(v / 4) + 2 * (t % 4) + (v % 2);
        assert.equal(element(layouts.c, t, v), row + 64 * column);
      }
    }
    assert.ok(holders(layouts.a, 128, 64 * form.k).every((count) => count === 1));
    assert.ok(holders(layouts.b, 128, n * form.k).every((count) => count === 128));
    assert.ok(holders(wgmmaThreadValues(form, false).a, 128, 64 * form.k).every((count) => count === 128));
  }
});

test('ldmatrix: lane i addresses row i and holds a pair of every matrix', () => {
  for (const count of [1, 2, 4] as const) {
    for (const transpose of [false, true]) {
      const { source, destination } = ldmatrixThreadValues(count, transpose);
      for (let lane = 0; lane < 32; lane++) {
        const row = lane % (8 * count);
        assert.equal(element(source, lane, 5), row * 128 + 5);
        for (let value = 0; value < 2 * count; value++) {
          const [matrix, half] = [Math.floor(value / 2), value % 2];
          const [group, inGroup] = [Math.floor(lane / 4), lane % 4];
          const [r, c] = transpose ? [2 * inGroup + half, group] : [group, 2 * inGroup + half];
          assert.equal(element(destination, lane, 16 * value + 3), (matrix * 64 + r * 8 + c) * 16 + 3);
        }
      }
      assert.ok(holders(destination, 32, 1024 * count).every((times) => times === 1));
      const stores = stmatrixThreadValues(count, transpose);
      assert.deepEqual([stores.source, stores.destination], [destination, source]);
    }
  }
});

test('atoms of shared memory: element bits move the swizzle, not the bytes', () => {
  assert.deepEqual(smemAtom('k', '128', 16), {
    ...{ swizzle: { bits: 3, base: 3, shift: 3 }, layout: { shape: [8, 64], stride: [64, 1] }, mode: '128' },
  });
  assert.deepEqual(smemAtom('mn', '64', 8).layout, { shape: [64, 8], stride: [1, 64] });
  assert.deepEqual(smemAtom('k', '32', 8).swizzle, { bits: 1, base: 4, shift: 3 });
  assert.deepEqual(smemAtom('k', 'none', 32).layout, { shape: [8, 4], stride: [4, 1] });
  assert.throws(() => smemAtom('k', '128', 64), /4, 8, 16 or 32 bits, not 64/);
  assert.deepEqual(
    [64, 32, 16, 8, 24].map((n) => widestSwizzle(n, 16)),
    ['128', '64', '32', 'none', 'none'],
  );
  assert.throws(() => widestSwizzle(12, 16), /24 bytes/);
});

/** An operand whose atoms are tiled along MN first. */
function operand(
  major: 'k' | 'mn',
  swizzle: 'none' | '32' | '64' | '128',
  rows: number,
  tileRows = rows,
): Parameters<typeof describeOperand>[0] {
  const { layout } = smemAtom(major, swizzle, 16);
  const [pitchRows, pitchK] = layout.shape as number[];
  const [dr, dk] = layout.stride as number[];
  const size = pitchRows * pitchK;
  const offset = (row: number, k: number): number =>
    (row % pitchRows) * dr +
    (k % pitchK) * dk +
    size * (Math.floor(row / pitchRows) + Math.floor(k / pitchK) * (tileRows / pitchRows));
  return { rows, depth: 16, bits: 16, swizzle, offset };
}

test('descriptors of the canonical layouts', () => {
  for (const swizzle of ['32', '64', '128'] as const) {
    assert.deepEqual(describeOperand(operand('k', swizzle, 64)), {
      ...{ leading: 16, stride: 8 * Number(swizzle), swizzle, major: 'k' },
    });
  }
  // Without a swizzle the second 16 bytes of K lie behind all rows.
  assert.deepEqual(describeOperand(operand('k', 'none', 64)), {
    ...{ leading: 1024, stride: 128, swizzle: 'none', major: 'k' },
  });
  assert.deepEqual(describeOperand(operand('mn', '128', 128)), {
    ...{ leading: 1024, stride: 2048, swizzle: '128', major: 'mn' },
  });
  assert.deepEqual(describeOperand(operand('mn', '64', 64)), {
    ...{ leading: 512, stride: 1024, swizzle: '64', major: 'mn' },
  });
  assert.deepEqual(describeOperand(operand('mn', 'none', 64)), {
    ...{ leading: 1024, stride: 128, swizzle: 'none', major: 'mn' },
  });
});

test('other layouts are refused with the element that is elsewhere', () => {
  const good = operand('k', '128', 64);
  const padded = (row: number, k: number): number => row * 72 + k;
  assert.throws(() => describeOperand({ ...good, offset: padded }), /element \(1, 0\) lies at 72, .* reads it at 64/);
  assert.throws(() => describeOperand({ ...good, offset: (row, k) => 2 * (64 * row + k) }), /neither K nor/);
  assert.throws(
    () => describeOperand({ ...operand('mn', '128', 64), bits: 8, depth: 32 }),
    /contiguous K: store it transposed/,
  );
  assert.throws(() => describeOperand({ ...good, rows: 12 }), /rows in eights/);
  assert.throws(() => describeOperand({ ...operand('k', '32', 64), depth: 32 }), /a row with swizzle 32 has 16/);
});
