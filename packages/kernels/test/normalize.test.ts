import assert from 'node:assert/strict';
import { test } from 'node:test';
import normalize from '../src/normalize.ts';
import { runCase, testKernel, testRowsAlone } from './support.ts';

testKernel(normalize);
testRowsAlone(normalize, { dims: { rows: 5, columns: 512 } }, ['x', 'y']);

test('normalize: zeros stay zeros, and lengths below 1e-12 count as that', async () => {
  const x = new Uint8Array(Float32Array.of(0, 0, 0, 0, 3e-14, 4e-14, 0, 0).buffer);
  const { y } = await runCase(normalize, { dims: { rows: 2, columns: 4 } }, { x });
  const got = new Float32Array(y.slice().buffer);
  assert.deepEqual([...got.slice(0, 4)], [0, 0, 0, 0]);
  assert.ok(Math.abs(got[4] - 0.03) < 1e-7 && Math.abs(got[5] - 0.04) < 1e-7);
});
