import activation from '../src/activation.ts';
import { testKernel, testRowsAlone } from './support.ts';

testKernel(activation, [
  { dims: { rows: 7, columns: 1032 }, tuning: { waves: 1, turns: 1 } },
  { dims: { rows: 3, columns: 331 }, options: { interleaved: true }, tuning: { turns: 4 } },
  { dims: { rows: 3, columns: 64 }, options: { kind: 'relu2', output: 'e4m3', type: 'f16' } },
  { dims: { rows: 3, columns: 64 }, options: { kind: 'clamped_swiglu', type: 'f32' } },
]);

testRowsAlone(activation, { dims: { rows: 3, columns: 256 } }, ['x', 'y']);
