import kernel from '../src/moe_combine.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
