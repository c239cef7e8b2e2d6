import assert from 'node:assert/strict';
import { test } from 'node:test';
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

for (const [arch, first] of [
  ['sm_80', 7],
  ['sm_90a', 8],
  ['sm_100a', 8.6],
] as const) {
  test(`scalar, memory and synchronisation forms assemble for ${arch}`, { skip: WITHOUT_PTXAS }, () => {
    assert.ok(assembleForms(SCALAR_FORMS, arch, first) > 500);
  });
}
