import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { checkKernel, formatReport } from '../src/check.ts';
import qkRopeCache from '../src/qk_rope_cache.ts';
import { specialise } from '../src/spec.ts';
import { runCase, SIMULATOR, testKernel } from './support.ts';

testKernel(qkRopeCache, [
  { dims: { tokens: 4, qHeads: 6, kvHeads: 3, head: 32, rotary: 32, positions: 9, pages: 2 } },
  {
    dims: { tokens: 3, qHeads: 3, kvHeads: 1, head: 256, rotary: 256, positions: 9, pages: 2 },
    options: { layout: 'interleaved', weight: 'plus_one', type: 'f16' },
  },
]);

test('heads of every multiple of 8, and small ones of 4, whole or in part rotated', async () => {
  const sizes = { qHeads: 2, kvHeads: 1, tokens: 2, positions: 5, pages: 2 };
  for (const head of [8, 16, 20, 24, 36, 40, 48, 72, 80, 112, 136, 192, 200, 248]) {
    for (const rotary of new Set([head, (head > 128 ? 8 : 4) * Math.ceil(head / 20)])) {
      const dims = { ...sizes, head, rotary };
      const s = specialise(qkRopeCache, { dims, options: { norm: head % 16 !== 8, type: 'f32' } });
      const report = await checkKernel(qkRopeCache, s, SIMULATOR, qkRopeCache.trace(s), { multiprocessors: 1 });
      assert.ok(report.passed, formatReport(report));
    }
  }
});

test('tokens, positions and pages are no part of the kernel', () => {
  const dims = { qHeads: 4, kvHeads: 2, head: 64, rotary: 64 };
  const [one, many] = [
    { tokens: 1, positions: 1, pages: 1 },
    { tokens: 500, positions: 4096, pages: 9999 },
  ].map((batch) => {
    const s = specialise(qkRopeCache, { dims: { ...dims, ...batch }, tuning: { turns: 4 } });
    return compileKernel(qkRopeCache.trace(s), { arch: 'sm_90a' }).program.ptx;
  });
  assert.ok(one === many);
});

test('how many heads a thread has a part of changes no bits', async () => {
  const dims = { tokens: 3, qHeads: 5, kvHeads: 1, head: 64, rotary: 64, positions: 9, pages: 2 };
  const runs = await Promise.all([1, 2, 4, 8].map((turns) => runCase(qkRopeCache, { dims, tuning: { turns } })));
  for (const run of runs) assert.deepEqual(run, runs[0]);
});

test('what is not to be had is refused', () => {
  const dims = { tokens: 1, qHeads: 2, kvHeads: 1, head: 64, pages: 1 };
  const refused = (more: Record<string, number>, message: RegExp): void => {
    assert.throws(() => specialise(qkRopeCache, { dims: { ...dims, ...more } }), message);
  };
  refused({ head: 62 }, /heads of 62 elements/);
  refused({ head: 132 }, /heads of 132 elements/);
  refused({ head: 264 }, /heads of 264 elements/);
  refused({ rotary: 64 }, /both or neither/);
  refused({ rotary: 10, positions: 5 }, /multiple of 4/);
  refused({ rotary: 72, positions: 5 }, /up to 64/);
});
