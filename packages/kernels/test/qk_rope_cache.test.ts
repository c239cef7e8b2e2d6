import qkRopeCache from '../src/qk_rope_cache.ts';
import { testKernel } from './support.ts';

testKernel(qkRopeCache, [
  { dims: { tokens: 4, qHeads: 6, kvHeads: 3, head: 32, rotary: 32, positions: 9, pages: 2 } },
  {
    dims: { tokens: 3, qHeads: 3, kvHeads: 1, head: 256, rotary: 256, positions: 9, pages: 2 },
    options: { layout: 'interleaved', weight: 'plus_one', type: 'f16' },
  },
]);
