import kernel from '../src/linear_fp8_mma.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
