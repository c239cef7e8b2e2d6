import attentionRows from '../src/attention_rows.ts';
import { testKernel } from './support.ts';

testKernel(attentionRows);
