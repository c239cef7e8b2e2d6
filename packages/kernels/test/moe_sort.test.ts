import kernel from '../src/moe_sort.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
