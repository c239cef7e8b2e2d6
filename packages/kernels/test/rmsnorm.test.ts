import rmsnorm from '../src/rmsnorm.ts';
import { testKernel, testRowsAlone } from './support.ts';

testKernel(rmsnorm, [
  // Walks over rows, several rows a CTA, the last block not full.
  { dims: { rows: 23, columns: 256 }, tuning: { waves: 1, lanes: 16 } },
  { dims: { rows: 7, columns: 1032 }, options: { residual: true }, tuning: { waves: 1, lanes: 64, early: false } },
  { dims: { rows: 2, columns: 1032 }, options: { gate: true, weight: 'none' }, tuning: { lanes: 128, threads: 256 } },
  { dims: { rows: 1, columns: 1 }, options: { type: 'f32' } },
  // The most that a thread holds.
  { dims: { rows: 1, columns: 16384 }, options: { residual: true, gate: true } },
  { dims: { rows: 3, columns: 997 }, options: { type: 'f16', weight: 'plus_one', output: 'e4m3' } },
]);

testRowsAlone(rmsnorm, { dims: { rows: 5, columns: 512 }, options: { residual: true } }, ['x', 'residual', 'sum', 'y']);
testRowsAlone(rmsnorm, { dims: { rows: 3, columns: 2048 } }, ['x', 'y']);
