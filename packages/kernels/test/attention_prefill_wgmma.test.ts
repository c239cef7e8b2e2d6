import assert from 'node:assert/strict';
import { test } from 'node:test';
import attentionPrefill from '../src/attention_prefill.ts';
import attentionPrefillWgmma from '../src/attention_prefill_wgmma.ts';
import { makeCase } from '../src/check.ts';
import { specialise } from '../src/spec.ts';
import { SIMULATOR, testKernel } from './support.ts';

testKernel(attentionPrefillWgmma);

test('attention by wgmma gives the bits of attention by mma.sync', async () => {
  const wanted = { dims: { sequences: 2, tokens: 40, longest: 150, shortest: 130, qHeads: 1, kvHeads: 1, head: 64 } };
  const [one, other] = await Promise.all(
    [attentionPrefill, attentionPrefillWgmma].map(async (module) => {
      const s = specialise(module, wanted);
      const { args } = makeCase(module, s);
      await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: 1 }));
      const { y } = args;
      assert.ok(typeof y === 'object');
      return y.bytes;
    }),
  );
  assert.deepEqual(one, other);
});
