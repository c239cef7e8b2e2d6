import assert from 'node:assert/strict';
import { test } from 'node:test';
import attentionPrefill from '../src/attention_prefill.ts';
import attentionPrefillWgmma from '../src/attention_prefill_wgmma.ts';
import { makeCase } from '../src/check.ts';
import { specialise } from '../src/spec.ts';
import { SIMULATOR, testKernel } from './support.ts';

testKernel(attentionPrefillWgmma);

for (const cache of ['same', 'e4m3']) {
  test(`attention by wgmma, packed or not, gives the bits of attention by mma.sync, cache ${cache}`, async () => {
    const dims = { sequences: 2, tokens: 40, longest: 150, shortest: 130, qHeads: 2, kvHeads: 1, head: 64 };
    const bits: Uint8Array[] = [];
    for (const [module, tuning] of [
      [attentionPrefill, { pack: false }],
      [attentionPrefill, { pack: true }],
      [attentionPrefillWgmma, { pack: false }],
      [attentionPrefillWgmma, { pack: true }],
    ] as const) {
      const s = specialise(module, { dims, options: { cache, sinks: true }, tuning });
      const { args } = makeCase(module, s);
      await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: 1 }));
      const { y } = args;
      assert.ok(typeof y === 'object');
      bits.push(y.bytes);
    }
    for (const i of [1, 2, 3]) assert.deepEqual(bits[i], bits[0], `run ${i}`);
  });
}

test('query heads share blocks where that makes fewer of them', () => {
  const packs = (tokens: number, qHeads: number): boolean => {
    const dims = { sequences: 1, tokens, longest: 8192, shortest: 8192, qHeads, kvHeads: 2, head: 128 };
    return specialise(attentionPrefillWgmma, { dims }).tuning['pack'] === true;
  };
  assert.deepEqual(
    [packs(16, 8), packs(129, 8), packs(128, 8), packs(8192, 8), packs(16, 2), packs(16, 6)],
    [true, true, false, false, false, false],
  );
  const six = { sequences: 1, tokens: 16, longest: 16, shortest: 16, qHeads: 6, kvHeads: 2, head: 64 };
  assert.throws(() => specialise(attentionPrefillWgmma, { dims: six, tuning: { pack: true } }), /3 query heads/);
});
