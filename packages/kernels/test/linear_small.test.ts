import kernel from '../src/linear_small.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
