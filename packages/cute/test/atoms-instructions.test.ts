import assert from 'node:assert/strict';
import { test } from 'node:test';
import { INSTRUCTIONS } from '../src/atoms/instructions.ts';
import { makeNode } from '../src/ir/builder.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { checkSignature } from '../src/ir/signatures.ts';

test('the verifier takes every form of the table, and each is there once', () => {
  const kernel: KernelIR = {
    name: 'k',
    params: [],
    shared: [],
    body: [],
    threads: [128, 1, 1],
    values: 0,
    slotCount: 0,
  };
  const position = { file: 'forms.ts', line: 1, column: 1 };
  const seen = new Set<string>();
  for (const form of INSTRUCTIONS) {
    const args = form.args.map((type) => makeNode(kernel, 'param', position, { types: [type] }).results[0]);
    const { op, attributes, results: types } = form;
    checkSignature(makeNode(kernel, op, position, { args, types, attributes }));
    const key = JSON.stringify(form);
    assert.ok(!seen.has(key), key);
    seen.add(key);
  }
});
