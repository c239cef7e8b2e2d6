import attentionPrefillWgmma from '../src/attention_prefill_wgmma.ts';
import { testKernel } from './support.ts';

testKernel(attentionPrefillWgmma);
