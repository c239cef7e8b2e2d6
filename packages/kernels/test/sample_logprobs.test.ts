import sampleLogprobs from '../src/sample_logprobs.ts';
import { testKernel } from './support.ts';

testKernel(sampleLogprobs);
