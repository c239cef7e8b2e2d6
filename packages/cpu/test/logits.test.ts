import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bench, WAYS, bits, random, sameBits } from './support.ts';

const ways = await Promise.all(WAYS.map((way) => Bench.open(way)));

interface Summary {
  readonly maximum: number;
  readonly index: number;
  readonly total: number;
}

/** One row's summary, the same on every way to compute. */
function summarize(x: ArrayLike<number>): Summary {
  const results = ways.map((bench) =>
    bench.run((program) => {
      const output = bench.room(12);
      const input = bench.floats([...Array.from(x), ...Array.from(x), ...Array.from(x)]);
      program.summarize({ input, rows: 3, width: x.length, output });
      return () => bench.read(output, 12);
    }),
  );
  results.forEach((result, i) => sameBits(result, results[0], ways[i].name));
  const [row, second, third] = [0, 4, 8].map((at) => results[0].slice(at, at + 4));
  sameBits(second, row, 'second row');
  sameBits(third, row, 'third row');
  assert.equal(bits(row)[3], 0);
  return { maximum: row[0], index: bits(row)[1], total: row[2] };
}

function close(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) <= 2e-6 * expected, `${actual} is not ${expected}`);
}

test('summarize gives the maximum, where it first stands, and the sum of exponentials', () => {
  for (const width of [...Array.from({ length: 40 }, (_, i) => i + 1), 1000]) {
    const x = random(width, width).map((value) => 20 * value);
    const { maximum, index, total } = summarize(x);
    assert.equal(maximum, Math.max(...x));
    assert.equal(index, x.indexOf(maximum));
    close(
      total,
      x.reduce((sum, value) => sum + Math.exp(value - maximum), 0),
    );
  }
});

test('the first of equal maxima counts', () => {
  for (let width = 2; width <= 40; width++) {
    for (const at of [0, 1, width >> 1, width - 2]) {
      const x = new Float32Array(width).fill(-1);
      x[at] = x[width - 1] = 3;
      assert.equal(summarize(x).index, at, `${width} wide`);
    }
    assert.equal(summarize(new Float32Array(width).fill(2)).index, 0);
  }
});

test('zeros of either sign are equal', () => {
  assert.equal(summarize([-1, -0, 0, -2]).index, 1);
  assert.equal(summarize([-1, 0, -0, -2]).index, 1);
  assert.equal(summarize([-0, -0, -3]).index, 0);
  assert.equal(summarize([-3, -0, -0]).index, 1);
  assert.equal(summarize(new Float32Array(20).map((_, i) => (i === 13 ? 0 : -0))).index, 0);
});

test('infinities: a banned token weighs nothing, an infinite one is the maximum', () => {
  const banned = summarize([-Infinity, 1, -Infinity, 0, -Infinity]);
  assert.deepEqual([banned.maximum, banned.index], [1, 1]);
  close(banned.total, 1 + Math.exp(-1));
  const infinite = summarize([0, Infinity, 1, Infinity]);
  assert.deepEqual([infinite.maximum, infinite.index, Number.isNaN(infinite.total)], [Infinity, 1, true]);
});

test('NaN anywhere makes maximum and sum NaN', () => {
  for (const width of [1, 5, 8, 13, 33]) {
    for (let at = 0; at < width; at++) {
      const x = random(width, 1);
      x[at] = NaN;
      const { maximum, total } = summarize(x);
      assert.ok(Number.isNaN(maximum) && Number.isNaN(total), `${at} of ${width}`);
    }
  }
});

test('candidates are the elements at or above a threshold, in order, as many as there is room for', () => {
  for (const bench of ways) {
    for (const width of [1, 2, 7, 40, 300]) {
      const x = random(width, width).map((value) => Math.round(4 * value) / 4);
      for (const threshold of [-2, -0.5, 0, 0.25, 2, -Infinity]) {
        const expected = Array.from(x, (value, i) => [i, value]).filter(([, value]) => value >= threshold);
        for (const capacity of [0, 1, 5, width]) {
          const mark = bench.arena.used;
          const [indices, values] = [bench.ints(new Int32Array(width + 1).fill(-7)), bench.room(width + 1)];
          const found = bench.arena.candidates(bench.floats(x), width, threshold, indices, values, capacity);
          const kept = expected.slice(0, capacity);
          assert.equal(found, expected.length);
          assert.deepEqual(
            [...bench.arena.i32(indices, kept.length)],
            kept.map(([i]) => i),
          );
          assert.deepEqual(
            [...bench.arena.f32(values, kept.length)],
            kept.map(([, value]) => value),
          );
          assert.equal(bench.arena.i32(indices, width + 1)[kept.length], -7, 'nothing is written behind');
          bench.arena.release(mark);
        }
      }
    }
    const mark = bench.arena.used;
    const input = bench.floats([NaN, 1, -Infinity, Infinity, NaN]);
    const [indices, values] = [bench.room(5), bench.room(5)];
    assert.equal(bench.arena.candidates(input, 5, 0, indices, values, 5), 2, 'NaN is no candidate');
    assert.deepEqual([...bench.arena.i32(indices, 2)], [1, 3]);
    bench.arena.release(mark);
  }
});
