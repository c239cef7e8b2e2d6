import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { contextTokenBytes, describe, parameterCount, weightBytes } from '../src/model/memory.ts';
import type { ModelSpec } from '../src/model/spec.ts';
import { reference } from './checkpoint/files.ts';

async function specOf(name: string): Promise<ModelSpec> {
  const checkpoint = await openCheckpoint(reference(name));
  await checkpoint.close();
  return checkpoint.spec;
}

test('a decoder with an output matrix of its own', async () => {
  const spec = await specOf('llama-gqa');
  // Embedding and output 200 x 64 each; a layer: q and output 64 x 64, k and v 32 x 64, gate, up and down 64 x 64.
  const matrices = 200 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 64);
  const table = 200 * 64;
  const vectors = 5 * 64;
  assert.equal(parameterCount(spec), matrices + table + vectors);
  assert.equal(weightBytes(spec, 'f32'), 4 * (matrices + table + vectors));
  assert.equal(weightBytes(spec, 'bf16'), 2 * (matrices + table) + 4 * vectors);
  assert.equal(weightBytes(spec, 'int8'), matrices + (4 * matrices) / 32 + 2 * table + 4 * vectors);
  assert.equal(weightBytes(spec, 'int4'), matrices / 2 + (4 * matrices) / 32 + 2 * table + 4 * vectors);
  // Keys and values of 2 heads of 16 in 2 layers.
  assert.equal(contextTokenBytes(spec, 'f32'), 2 * 2 * 2 * 16 * 4);
  assert.equal(contextTokenBytes(spec, 'bf16'), 2 * 2 * 2 * 16 * 2);
});

test('a tied output matrix counts once, and once more where it is quantized', async () => {
  const spec = await specOf('qwen2');
  const table = 200 * 64;
  const untied: ModelSpec = { ...spec, head: { kind: 'logits', tied: false } };
  assert.equal(parameterCount(untied) - parameterCount(spec), table);
  assert.equal(weightBytes(untied, 'bf16') - weightBytes(spec, 'bf16'), 2 * table);
  assert.equal(weightBytes(untied, 'int4'), weightBytes(spec, 'int4'));
});

test('rows that are no multiple of a group carry a scale for what is left', async () => {
  const spec = await specOf('llama-odd-sizes');
  const wider = { ...spec, vocabSize: spec.vocabSize + 1 };
  // A row of the table in bfloat16, and one of the output matrix: 40 weights in two groups.
  assert.equal(weightBytes(wider, 'int8') - weightBytes(spec, 'int8'), 2 * 40 + 40 + 2 * 4);
  assert.equal(weightBytes(wider, 'int4') - weightBytes(spec, 'int4'), 2 * 40 + 20 + 2 * 4);
});

test('encoders keep nothing for a token', async () => {
  assert.equal(contextTokenBytes(await specOf('bert-mean'), 'f32'), 0);
});

test('the description says what the model is and needs', async () => {
  assert.deepEqual(describe(await specOf('qwen3-mixed')), [
    'architecture  Qwen3ForCausalLM (generate)',
    'parameters    50,464',
    'width         32, vocabulary 200',
    'context       128 tokens',
    'layers 0, 2   4 heads of 16 on 2 key-value heads, causal, window 16, RoPE theta 1,000,000, QK norm, bias on q, k, v, output; gated silu 64; RMS norm (1e-6) before each part',
    'layer 1       4 heads of 16 on 2 key-value heads, causal, RoPE theta 1,000,000, QK norm, bias on q, k, v, output; gated silu 64; RMS norm (1e-6) before each part',
    'head          next token',
    'weights       f32 197 KiB, bf16 100 KiB, int8 63.2 KiB, int4 42.0 KiB',
    'per token     768 B (f32 cache), 384 B (bf16 cache)',
    'full context  96.0 KiB (f32 cache), 48.0 KiB (bf16 cache)',
  ]);
  const lines = describe(await specOf('bert-score-3')).join('\n');
  assert.match(lines, /head +3 labels \(contradiction, neutral, entailment\): cls pooling/);
  assert.match(lines, /96 tokens, 96 learned positions/);
  assert.doesNotMatch(lines, /per token/);
});
