import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Layout,
  LayoutError,
  blockedProduct,
  coalesce,
  coalesceX,
  complement,
  composition,
  cosize,
  crd2idx,
  downcast,
  filter,
  flatDivide,
  idx2crd,
  leftInverse,
  logicalDivide,
  logicalProduct,
  makeLayout,
  maxCommonVector,
  nullspace,
  rakedProduct,
  rightInverse,
  sameFunction,
  tiledDivide,
  tupleMath,
  tuples,
  upcast,
  zippedDivide,
  zippedProduct,
  type IntTuple,
} from '../src/layout/index.ts';

/** A small generator of random numbers with a seed (mulberry32), so that a failure comes again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const below = random(20_260);

function pick<T>(values: readonly T[]): T {
  return values[below(values.length)];
}

function shape(depth: number): IntTuple {
  if (depth === 0 || below(3) === 0) return pick([1, 2, 2, 3, 4, 4, 6, 8]);
  return Array.from({ length: 1 + below(3) }, () => shape(depth - 1));
}

/** A layout whose modes are compact in a random order, with now and then a gap or a stride of 0. */
function randomLayout(gaps = true): Layout {
  const extents = shape(2);
  const flat = tuples.leavesOf(extents) as number[];
  const strides = new Array<number>(flat.length).fill(0);
  const order = [...flat.keys()].sort(() => below(3) - 1);
  let next = 1;
  for (const i of order) {
    strides[i] = flat[i] === 1 || (gaps && below(10) === 0) ? 0 : next;
    next *= flat[i] * (gaps ? pick([1, 1, 1, 2]) : 1);
  }
  return new Layout(extents, tuples.unflatten<number>(strides, extents));
}

/** The result, or undefined where the algebra refuses; any other error is a fault. */
function admissible<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof LayoutError) return undefined;
    throw error;
  }
}

function sizeOf(layout: Layout): number {
  return layout.size as number;
}

function indices(layout: Layout): number[] {
  return Array.from({ length: sizeOf(layout) }, (_index, i) => layout.at(i) as number);
}

/** Runs `check` on random input until it has found `wanted` admissible ones, so that a test cannot pass by refusing. */
function repeatedly(wanted: number, check: () => boolean): void {
  let found = 0;
  for (let tries = 0; found < wanted; tries += 1) {
    assert.ok(tries < wanted * 60, `only ${found} of ${wanted} random inputs are admissible`);
    if (check()) found += 1;
  }
}

test('composition: R(c) = A(B(c)), of the size and profile of B, wherever the extents divide', () => {
  repeatedly(600, () => {
    const a = randomLayout();
    // Compact, or a single mode: where modes of B overlap, their sums carry across the modes of A.
    const b =
      below(2) === 0 ? randomLayout(false) : makeLayout(pick([2, 3, 4, 6, 8, 12]), pick([1, 2, 3, 4, 6, 8, 16, 24]));
    const result = admissible(() => composition(a, b));
    if (result === undefined) return false;
    assert.equal(sizeOf(result), sizeOf(b));
    assert.ok(tupleMath.compatible(b.shape, result.shape));
    // Every stride of B must divide the modes of A it walks across, or be a multiple of them: else tiles overhang.
    if (!divides(a, b)) return false;
    for (let i = 0; i < sizeOf(b); i += 1)
      assert.equal(result.at(i), a.at(b.at(i)), `${String(a)} o ${String(b)} at ${i}`);
    return true;
  });
});

function divides(a: Layout, b: Layout): boolean {
  const ends: number[] = [];
  let reached = 1;
  for (const extent of (tuples.leavesOf(coalesceX(a).shape) as number[]).slice(0, -1)) ends.push((reached *= extent));
  return (tuples.leavesOf(b.stride) as number[]).every(
    (stride) => stride === 0 || ends.every((end) => end % stride === 0 || stride % end === 0),
  );
}

test('coalesce and filter keep the function', () => {
  repeatedly(250, () => {
    const layout = randomLayout();
    const merged = coalesce(layout);
    assert.ok(merged.depth <= 1);
    assert.deepEqual(indices(merged), indices(layout));
    assert.deepEqual(
      [...new Set(indices(filter(layout)))].sort((a, b) => a - b),
      [...new Set(indices(layout))].sort((a, b) => a - b),
    );
    assert.ok(sameFunction(layout, merged));
    return true;
  });
});

test('complement: ascends, and shares only index 0 with the layout', () => {
  repeatedly(250, () => {
    const layout = randomLayout();
    const target = pick([16, 24, 64, 96, 256]);
    const rest = admissible(() => complement(layout, target));
    if (rest === undefined || sizeOf(rest) > 4096) return false;
    const values = indices(rest);
    for (let i = 1; i < values.length; i += 1) assert.ok(values[i] > values[i - 1]);
    const own = new Set(indices(layout));
    assert.ok(values.every((value, i) => i === 0 || !own.has(value)));
    return true;
  });
});

test('inverses: L(R(i)) = i on the right, L(R(L(i))) = L(i) on the left', () => {
  repeatedly(250, () => {
    const layout = randomLayout();
    const right = rightInverse(layout);
    for (let i = 0; i < sizeOf(right); i += 1) assert.equal(layout.at(right.at(i)), i);
    const left = admissible(() => leftInverse(layout));
    if (left === undefined) return false;
    for (const index of indices(layout)) assert.equal(layout.at(left.at(index)), index);
    return true;
  });
  for (let i = 0; i < 200; i += 1) {
    const compact = randomLayout(false);
    assert.equal(sizeOf(rightInverse(compact)), sizeOf(compact));
    assert.ok(sameFunction(rightInverse(compact), leftInverse(compact)));
  }
});

test('divides are regroupings of A o (B, complement(B, shape(coalesce(A))))', () => {
  repeatedly(200, () => {
    const a = randomLayout();
    const b = randomLayout();
    const divided = admissible(() => logicalDivide(a, b));
    if (divided === undefined || sizeOf(divided) > 8192) return false;
    assert.deepEqual(indices(divided.mode(0)), indices(composition(a, b)));
    assert.deepEqual(indices(divided.mode(1)), indices(composition(a, complement(b, coalesce(a).shape))));
    return true;
  });
  for (const [m, n] of [
    [4, 8],
    [2, 16],
    [8, 1],
  ] as const) {
    const layout = makeLayout([16, 32], 'right');
    const zipped = zippedDivide(layout, [m, n]);
    assert.deepEqual(indices(tiledDivide(layout, [m, n])), indices(zipped));
    assert.deepEqual(indices(flatDivide(layout, [m, n])), indices(zipped));
    for (let i = 0; i < 16; i += 1) {
      for (let j = 0; j < 32; j += 1) {
        assert.equal(zipped.at([i % m, j % n], [Math.floor(i / m), Math.floor(j / n)]), layout.at(i, j));
      }
    }
  }
});

test('products: the block, repeated by the complement; blocked and raked are its regroupings', () => {
  repeatedly(200, () => {
    const a = randomLayout();
    const b = randomLayout();
    const result = admissible(() => logicalProduct(a, b));
    if (result === undefined || sizeOf(result) > 8192) return false;
    assert.equal(sizeOf(result), sizeOf(a) * sizeOf(b));
    assert.deepEqual(indices(result.mode(0)), indices(a));
    const repeats = complement(a, sizeOf(a) * (cosize(b) as number));
    assert.deepEqual(indices(result.mode(1)), indices(composition(repeats, b)));
    assert.deepEqual(indices(zippedProduct(a, b)), indices(result));
    return true;
  });
  const block = makeLayout([2, 4], 'right');
  const tiler = makeLayout([3, 5]);
  const blocked = blockedProduct(block, tiler);
  const raked = rakedProduct(block, tiler);
  for (let i = 0; i < 6; i += 1) {
    for (let j = 0; j < 20; j += 1) {
      const at = (bi: number, bj: number, ti: number, tj: number): number =>
        (block.at(bi, bj) as number) + 8 * (tiler.at(ti, tj) as number);
      assert.equal(blocked.at(i, j), at(i % 2, j % 4, Math.floor(i / 2), Math.floor(j / 4)));
      assert.equal(raked.at(i, j), at(Math.floor(i / 3), Math.floor(j / 5), i % 3, j % 5));
    }
  }
});

test('recast: an upcast names the same memory in larger elements, and downcast undoes it', () => {
  repeatedly(300, () => {
    const layout = admissible(() => downcast(randomLayout(false), 4) as Layout);
    if (layout === undefined) return false;
    const up = upcast(layout, 4) as Layout;
    assert.deepEqual(new Set(indices(up)), new Set(indices(layout).map((index) => Math.floor(index / 4))));
    assert.ok(sizeOf(up) * 4 === sizeOf(layout) || sizeOf(up) === 1);
    return sizeOf(layout) > 4;
  });
});

test('common vectors: element i lies at i in both layouts', () => {
  repeatedly(300, () => {
    const a = randomLayout();
    const b = randomLayout();
    const vector = admissible(() => maxCommonVector(a, b));
    if (vector === undefined) return false;
    const inverse = rightInverse(b);
    for (let i = 0; i < vector; i += 1) assert.equal(a.at(inverse.at(i)), i);
    return vector > 1;
  });
});

test('the nullspace maps to 0, and has the size that the filtered layout lacks', () => {
  repeatedly(200, () => {
    const layout = randomLayout();
    const kernel = nullspace(layout);
    assert.ok(indices(kernel).every((i) => layout.at(i) === 0));
    assert.equal(sizeOf(kernel), sizeOf(layout) / sizeOf(filter(layout)));
    return sizeOf(kernel) > 1;
  });
});

test('coordinates: crd2idx undoes idx2crd, and every form of a coordinate has one index', () => {
  repeatedly(300, () => {
    const layout = randomLayout();
    for (let i = 0; i < sizeOf(layout); i += 1) {
      const coord = idx2crd(i, layout.shape);
      assert.equal(crd2idx(coord, layout.shape), i);
      assert.equal(layout.at(coord), layout.at(i));
    }
    return true;
  });
});
