import unpack from '../src/unpack.ts';
import { testKernel } from './support.ts';

testKernel(unpack);
