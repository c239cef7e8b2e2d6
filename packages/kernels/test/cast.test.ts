import cast from '../src/cast.ts';
import { testKernel } from './support.ts';

testKernel(cast);
