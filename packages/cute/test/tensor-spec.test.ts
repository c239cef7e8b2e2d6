import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gcdNumber } from '../src/layout/arithmetic.ts';
import { LayoutError } from '../src/layout/error.ts';
import { bf16, divisible, f32, kernel, type Dim } from '../src/trace/index.ts';

/** Parameters that no tensor has are refused where they are written, and nothing goes on with numbers that are none. */

for (const [what, make, message] of [
  [
    'options instead of an extent',
    () => f32.tensor('n', { align: 4 } as never),
    /not \{"align":4\}; options stand behind a list of the extents: f32\.tensor\(\['n'\], \{ align: 4 \}\)/,
  ],
  ['an extent of NaN', () => f32.tensor(NaN), /not NaN/],
  ['an extent of 0', () => f32.tensor(0), /a whole number from 1/],
  ['a fraction', () => f32.tensor(1.5), /not 1\.5/],
  ['no name', () => f32.tensor(''), /not ""/],
  ['no extents', () => f32.tensor(), /at least one extent/],
  ['an alignment of 3', () => f32.tensor(['n'], { align: 3 }), /align is a power of two of at least 4, .* not 3/],
  ['an alignment of half an element', () => f32.tensor(['n'], { align: 2 }), /at least 4/],
  ['an alignment of NaN', () => bf16.tensor(['n'], { align: NaN }), /at least 2, .* not NaN/],
  ['another option', () => f32.tensor(['n'], { strides: [1] } as never), /there is no option strides/],
  ['a stride too many', () => f32.tensor(['n'], { stride: [1, 2] }), /as many strides, not 2/],
  ['a stride that is none', () => f32.tensor(['n'], { stride: [{} as Dim] }), /a stride is .* not \{\}/],
] as const) {
  test(`a tensor with ${what} is refused`, () => assert.throws(make, message));
}

test('tensors with other strides and alignments are traced', () => {
  const params = { x: f32.tensor(['n', 4], { stride: [divisible('s', 4), 1], align: 4 }), y: f32.tensor('n') };
  const traced = kernel({ name: 'strided', params, threads: 32 }, ({ x, y }) => {
    'use gpu';
    y[0] = x(1, 2)[0];
  });
  const [param] = traced.trace({}).params;
  assert.equal(param.kind === 'tensor' && param.align, 4);
});

test('a common divisor with what is no whole number is refused, and does not hang', () => {
  for (const [a, b] of [
    [16, NaN],
    [NaN, 16],
    [Infinity, 3],
    [3, Infinity],
  ]) {
    assert.throws(() => gcdNumber(a, b), LayoutError);
  }
});
