import kernel from '../src/linear_grouped_mma.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
