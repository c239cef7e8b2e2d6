import kernel from '../src/linear_fp8.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
