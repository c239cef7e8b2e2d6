import kernel from '../src/quantise_blocks.ts';
import { testKernel } from './support.ts';

testKernel(kernel);
