import topk from '../src/topk.ts';
import { testKernel } from './support.ts';

testKernel(topk);
