import attentionPrefill from '../src/attention_prefill.ts';
import { testKernel } from './support.ts';

testKernel(attentionPrefill);
