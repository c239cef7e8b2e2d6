import topk from '../src/topk.ts';
import { testKernel } from './support.ts';

testKernel(topk, [
  { dims: { rows: 3, columns: 64, k: 64 } },
  // Many equal elements: the earlier goes first.
  { dims: { rows: 2, columns: 2048, k: 4 }, options: { type: 'bf16' } },
]);
