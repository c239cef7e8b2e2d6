import embedding from '../src/embedding.ts';
import { testKernel } from './support.ts';

testKernel(embedding);
