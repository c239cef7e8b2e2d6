import argmax from '../src/argmax.ts';
import { testKernel } from './support.ts';

testKernel(argmax);
