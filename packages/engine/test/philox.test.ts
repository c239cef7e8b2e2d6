import assert from 'node:assert/strict';
import { test } from 'node:test';
import { philox4x32, uniform } from '../src/sampling/philox.ts';

const hex = (words: Uint32Array): string[] => [...words].map((word) => word.toString(16).padStart(8, '0'));

test('the generator gives the known answers published with Philox4x32-10', () => {
  const cases: [counter: number[], key: [number, number], expected: string[]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      ['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      ['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ],
  ];
  for (const [counter, [key0, key1], expected] of cases) {
    const words = Uint32Array.from(counter);
    philox4x32(words, key0, key1);
    assert.deepEqual(hex(words), expected);
  }
});

test('draws are uniform on [0, 1) and depend on seed and position alone', () => {
  const draws = Array.from({ length: 20000 }, (_, position) => uniform(42, position));
  assert.ok(draws.every((u) => u >= 0 && u < 1));
  const mean = draws.reduce((sum, u) => sum + u, 0) / draws.length;
  // The mean of n uniform draws deviates by 1 / sqrt(12 n) = 0.002; five times that.
  assert.ok(Math.abs(mean - 0.5) < 0.0102, `mean ${mean}`);
  assert.equal(new Set(draws).size, draws.length);
  assert.equal(uniform(42, 7), draws[7]);
  assert.notEqual(uniform(43, 7), draws[7]);
  // Seeds above 2^32 are told apart by their high word.
  assert.notEqual(uniform(42 + 2 ** 32, 7), draws[7]);
});
