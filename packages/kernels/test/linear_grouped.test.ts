import kernel from '../src/linear_grouped.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
