import softmax from '../src/softmax.ts';
import { testKernel } from './support.ts';

testKernel(softmax);
