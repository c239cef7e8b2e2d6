import kernel from '../src/linear_mma.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
