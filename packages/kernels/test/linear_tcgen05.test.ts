import kernel from '../src/linear_tcgen05.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
