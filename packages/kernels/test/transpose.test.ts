import transpose from '../src/transpose.ts';
import { testKernel } from './support.ts';

testKernel(transpose);
