import sampleHistory from '../src/sample_history.ts';
import { testKernel } from './support.ts';

testKernel(sampleHistory);
