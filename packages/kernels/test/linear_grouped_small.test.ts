import kernel from '../src/linear_grouped_small.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
