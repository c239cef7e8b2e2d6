import activation from '../src/activation.ts';
import { testKernel } from './support.ts';

testKernel(activation);
