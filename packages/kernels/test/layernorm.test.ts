import layernorm from '../src/layernorm.ts';
import { testKernel } from './support.ts';

testKernel(layernorm);
