import kernel from '../src/linear_fp8_small.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
