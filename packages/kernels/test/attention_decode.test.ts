import attentionDecode from '../src/attention_decode.ts';
import { testKernel } from './support.ts';

testKernel(attentionDecode);
