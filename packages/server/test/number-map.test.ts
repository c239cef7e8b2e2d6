import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NumberMap } from '../src/backend/number-map.ts';
import { random } from './random.ts';

test('a map of numbers holds what a Map holds, whatever comes and goes', () => {
  const { integer } = random(7);
  const map = new NumberMap<string>();
  const expected = new Map<number, string>();
  for (let step = 0; step < 200_000; step++) {
    // Few enough numbers to meet again, far enough apart to fall on the same places; some beyond 32 bits.
    const number = integer(300) * (step % 3 === 0 ? 64 : 1) + (step % 5 === 0 ? 2 ** 33 : 0);
    assert.equal(map.get(number), expected.get(number));
    if (expected.has(number)) {
      map.delete(number);
      expected.delete(number);
    } else if (integer(10) < 6) {
      map.set(number, `value ${step}`);
      expected.set(number, `value ${step}`);
    } else map.delete(number);
    assert.equal(map.size, expected.size);
  }
  assert.ok(expected.size > 100);
  assert.deepEqual(map.values().sort(), [...expected.values()].sort());
  map.clear();
  assert.equal(map.size, 0);
  assert.deepEqual(map.values(), []);
});
