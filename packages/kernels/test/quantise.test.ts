import assert from 'node:assert/strict';
import { test } from 'node:test';
import kernel from '../src/quantise.ts';
import { specialise } from '../src/spec.ts';
import { testKernel, testRowsAlone } from './support.ts';

testKernel(kernel);
testRowsAlone(kernel, { dims: { rows: 5, columns: 512 }, options: { scales: 'row' } }, ['x', 'y', 'scales']);

test('what has no whole groups is refused with its reason', () => {
  const options = { scales: 'group' };
  assert.throws(
    () => specialise(kernel, { dims: { rows: 1, columns: 200 }, options }),
    /200 elements has no whole groups of 128: pad it, or use scales of rows/,
  );
  assert.throws(
    () => specialise(kernel, { dims: { rows: 1, columns: 256 }, options, tuning: { lanes: 8 } }),
    /threads that hold 64 elements have no whole groups: use more lanes/,
  );
});
