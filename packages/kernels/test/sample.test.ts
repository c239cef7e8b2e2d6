import sample from '../src/sample.ts';
import { testKernel } from './support.ts';

testKernel(sample);
