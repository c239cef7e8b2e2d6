import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeNode } from '../src/ir/builder.ts';
import type { KernelIR } from '../src/ir/ir.ts';
import { checkSignature } from '../src/ir/signatures.ts';
import { OPS } from '../src/ir/ops.ts';
import { INSTRUCTIONS } from '../src/atoms/instructions.ts';
import { assembleForms } from './forms-assemble.ts';
import { SCALAR_FORMS } from './forms-scalar.ts';
import { WITHOUT_PTXAS } from './ptxas.ts';

test('every operation has a form that is assembled, or its own test', () => {
  const forms = new Set([...SCALAR_FORMS, ...INSTRUCTIONS].map((form) => form.op));
  const elsewhere = ['const', 'param', 'slot', 'get', 'set', 'shared_address', 'print', 'assert'];
  const control = ['if', 'loop', 'block', 'break', 'continue', 'return', 'trap'];
  const missing = Object.keys(OPS).filter((op) => !forms.has(op) && !elsewhere.includes(op) && !control.includes(op));
  assert.deepEqual(missing, []);
});

test('the verifier takes every form', () => {
  const position = { file: 'forms.ts', line: 1, column: 1 };
  const kernel: KernelIR = { name: 'k', params: [], shared: [], body: [], threads: [1, 1, 1], values: 0, slotCount: 0 };
  for (const { op, attributes, args, results } of SCALAR_FORMS) {
    const values = args.map((type) => makeNode(kernel, 'param', position, { types: [type] }).results[0]);
    checkSignature(makeNode(kernel, op, position, { args: values, types: results, attributes }));
  }
});

for (const [arch, first] of [
  ['sm_80', 7],
  ['sm_90a', 8],
  ['sm_100a', 8.6],
] as const) {
  test(`scalar, memory and synchronisation forms assemble for ${arch}`, { skip: WITHOUT_PTXAS }, () => {
    assert.ok(assembleForms(SCALAR_FORMS, arch, first) > 500);
  });
}
