import softmax from '../src/softmax.ts';
import { testKernel, testRowsAlone } from './support.ts';

testKernel(softmax, [
  { dims: { rows: 23, columns: 256 }, tuning: { waves: 1, lanes: 16 } },
  { dims: { rows: 7, columns: 1032 }, tuning: { waves: 1, lanes: 64 } },
  { dims: { rows: 3, columns: 1 } },
]);

testRowsAlone(softmax, { dims: { rows: 3, columns: 2048 } }, ['x', 'y']);
