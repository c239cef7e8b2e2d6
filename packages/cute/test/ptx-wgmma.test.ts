import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MATRIX_FORMS } from '../src/atoms/forms-matrix.ts';
import { assembleForms } from './forms-assemble.ts';
import { WITHOUT_PTXAS } from './ptxas.ts';

const FORMS = MATRIX_FORMS.filter(({ op }) => op === 'wgmma');

test('all forms of wgmma assemble for sm_90a', { skip: WITHOUT_PTXAS }, () => {
  assert.equal(assembleForms(FORMS, 'sm_90a', 8, false), 940);
});

test('no other architecture has wgmma', () => {
  for (const arch of ['sm_90', 'sm_100a']) assert.equal(assembleForms(FORMS, arch, 0, false), 0);
});
