import qkRopeCache from '../src/qk_rope_cache.ts';
import { testKernel } from './support.ts';

testKernel(qkRopeCache);
