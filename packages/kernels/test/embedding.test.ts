import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import embedding from '../src/embedding.ts';
import { specialise } from '../src/spec.ts';
import { runCase, testKernel } from './support.ts';

testKernel(embedding);

test('embedding gathers rows of activations: they are its table, whose number of rows is not compiled in', async () => {
  const [tokens, columns, vocabulary] = [3, 40, 9];
  const rows = [8, 0, 5];
  const given = { ids: new Uint8Array(Int32Array.from(rows).buffer) };
  const { table, y } = await runCase(embedding, { dims: { tokens, columns, vocabulary } }, given);
  const row = (bytes: Uint8Array, index: number): Uint8Array =>
    bytes.slice(index * columns * 2, (index + 1) * columns * 2);
  for (const [i, from] of rows.entries()) assert.deepEqual(row(y, i), row(table, from));
  const ptx = (rows: number): string => {
    const s = specialise(embedding, { dims: { tokens, columns, vocabulary: rows } });
    return compileKernel(embedding.trace(s), { arch: 'sm_90a' }).program.ptx;
  };
  assert.equal(ptx(vocabulary), ptx(16384));
});

test('embedding: what the step before drew stands for ids, bit for bit', async () => {
  const dims = { tokens: 4, columns: 40, vocabulary: 9, drawn: 3 };
  const ints = (list: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(list).buffer);
  const plain = await runCase(embedding, { dims }, { ids: ints([7, 2, 2, 8]) });
  const fed = { ids: ints([0, 2, 0, 8]), fed: ints([2, -1, 0, -1]), drawn: ints([2, 5, 7]), table: plain.table };
  const { y } = await runCase(embedding, { dims, options: { fed: true } }, fed);
  assert.deepEqual(y, plain.y);
});

test('embedding refuses options whose sizes are missing', () => {
  const dims = { tokens: 1, columns: 8, vocabulary: 2 };
  assert.throws(() => specialise(embedding, { dims, options: { types: true } }), /types=true needs the size types/);
  assert.throws(() => specialise(embedding, { dims, options: { fed: true } }), /fed=true needs the size drawn/);
});
