import linear from '../src/linear.ts';
import { testKernel } from './support.ts';

testKernel(linear);
