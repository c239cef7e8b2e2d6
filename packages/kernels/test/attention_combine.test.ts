import attentionCombine from '../src/attention_combine.ts';
import { testKernel } from './support.ts';

testKernel(attentionCombine);
