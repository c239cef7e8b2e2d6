import layernorm from '../src/layernorm.ts';
import { testKernel, testRowsAlone } from './support.ts';

testKernel(layernorm, [
  { dims: { rows: 23, columns: 256 }, tuning: { waves: 1, lanes: 16 } },
  { dims: { rows: 7, columns: 1032 }, tuning: { waves: 1, lanes: 64, early: false } },
  // The most that a thread holds.
  { dims: { rows: 1, columns: 16384 } },
  { dims: { rows: 3, columns: 997 }, options: { type: 'f16' } },
]);

testRowsAlone(layernorm, { dims: { rows: 3, columns: 2048 } }, ['x', 'y']);
// Many rows are tuned otherwise than few.
testRowsAlone(layernorm, { dims: { rows: 3, columns: 4096 }, tuning: { early: false } }, ['x', 'y'], { early: true });
