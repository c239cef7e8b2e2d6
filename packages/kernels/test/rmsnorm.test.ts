import rmsnorm from '../src/rmsnorm.ts';
import { testKernel } from './support.ts';

testKernel(rmsnorm);
