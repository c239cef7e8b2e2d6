import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, halfUlp } from '../src/index.ts';
import linearF32 from '../src/linear_f32.ts';
import { gelu } from '../src/support/reference.ts';
import { runCase, testKernel } from './support.ts';

testKernel(linearF32);

test('linear_f32: a row has the same bits in every tile and beside any others', async () => {
  const options = { bias: true, gate: 'silu' } as const;
  const dims = { rows: 20, columns: 48, depth: 68 };
  const whole = await runCase(linearF32, { dims, options, tuning: { tile: '64x64' } });
  for (const tile of ['128x128', '128x64', '16x32']) {
    const { y } = await runCase(linearF32, { dims, options, tuning: { tile, stages: 2 } }, whole);
    assert.deepEqual(y, whole.y, tile);
  }
  const row = (bytes: Uint8Array): Uint8Array =>
    bytes.slice((bytes.length / dims.rows) * 13, (bytes.length / dims.rows) * 14);
  const given = { x: row(whole.x), w: whole.w, bias: whole.bias };
  const { y } = await runCase(linearF32, { dims: { ...dims, rows: 1 }, options }, given);
  assert.deepEqual(y, row(whole.y));
});

test('linear_f32: without leaves the sum is that of a plain loop', async () => {
  const { x, w, y } = await runCase(linearF32, { dims: { rows: 2, columns: 5, depth: 36 } });
  const [a, b, sums] = [x, w, y].map((bytes) => new Float32Array(bytes.slice().buffer));
  const expected = Float32Array.from({ length: 10 }, (_, i) => {
    let sum = 0;
    // A product of two float32 numbers is exact in float64, so that this rounds once, but for ties that float64 makes.
    for (let k = 0; k < 36; k++) sum = Math.fround(a[Math.floor(i / 5) * 36 + k] * b[(i % 5) * 36 + k] + sum);
    return sum;
  });
  assert.deepEqual(sums, expected);
});

test('GELU of outputs in bf16 is off by 2^-12 beside the rounding, in the negative tail too, and by 4e-8 far out', async () => {
  const [rows, depth] = [96, 8];
  const x = encode(
    'bf16',
    Float64Array.from({ length: rows * depth }, (_, i) => (i - 384) / 48),
  );
  const identity = encode(
    'bf16',
    Float64Array.from({ length: depth * depth }, (_, i) => (i % (depth + 1) === 0 ? 1 : 0)),
  );
  const dims = { rows, columns: depth, depth };
  const { y } = await runCase(linearF32, { dims, options: { type: 'bf16', activation: 'gelu' } }, { x, w: identity });
  const inputs = decode('bf16', x);
  for (const [i, got] of decode('bf16', y).entries()) {
    const expected = gelu(inputs[i]);
    const before = Math.abs(expected) * 2 ** -12 + 4e-8;
    assert.ok(
      Math.abs(got - expected) <= before + halfUlp('bf16', Math.abs(expected) + before),
      `${inputs[i]}: ${got}`,
    );
  }
});
