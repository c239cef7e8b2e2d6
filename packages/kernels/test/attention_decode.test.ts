import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import attentionDecode from '../src/attention_decode.ts';
import { decodeStages } from '../src/index.ts';
import { specialise } from '../src/spec.ts';
import { runCase, testKernel } from './support.ts';

testKernel(attentionDecode);

test('how many pages are under way changes no bit', async () => {
  const dims = { sequences: 2, tokens: 1, longest: 300, shortest: 127, qHeads: 4, kvHeads: 2, head: 128 };
  const [two, three, four] = await Promise.all(
    [2, 3, 4].map((stages) => runCase(attentionDecode, { dims, tuning: { stages } })),
  );
  assert.deepEqual(three, two);
  assert.deepEqual(four, two);
});

test('a GPU with less shared memory has fewer pages under way, and what it cannot have at all is told', () => {
  const [small, large] = [99 * 1024, 227 * 1024];
  const bf16 = { type: 'bf16', cache: 'same' } as const;
  for (const head of [32, 64, 96, 128]) {
    const stages = decodeStages(head, bf16, small);
    assert.ok(stages !== undefined);
    const dims = { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: 4, kvHeads: 1, head };
    const s = specialise(attentionDecode, { dims, options: { whole: true }, tuning: { stages } });
    const { program } = compileKernel(attentionDecode.trace(s), { arch: 'sm_86' });
    assert.ok(program.sharedBytes <= small, `${head}: ${program.sharedBytes}`);
    assert.equal(decodeStages(head, bf16, large), specialise(attentionDecode, { dims }).tuning.stages);
  }
  assert.equal(decodeStages(128, bf16, large), 3);
  assert.equal(decodeStages(128, bf16, small), 2);
  assert.equal(decodeStages(256, bf16, small), undefined);
  assert.equal(decodeStages(256, { type: 'bf16', cache: 'e4m3' }, small), 2);
});
