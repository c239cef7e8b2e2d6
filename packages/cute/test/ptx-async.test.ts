import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ASYNC_FORMS } from '../src/atoms/forms-async.ts';
import { CLUSTER_FORMS } from '../src/atoms/forms-cluster.ts';
import { form } from '../src/atoms/form.ts';
import { ASYNC_OPS } from '../src/ir/ops-async.ts';
import { assembleForms } from './forms-assemble.ts';
import { entryOf } from './forms.ts';
import { WITHOUT_PTXAS } from './ptxas.ts';

const FORMS = [...ASYNC_FORMS, ...CLUSTER_FORMS];

function code(
  op: string,
  attributes: Parameters<typeof form>[1],
  args: Parameters<typeof form>[2],
  arch = 'sm_90a',
): string {
  return entryOf(form(op, attributes, args), 'k', arch)
    .code.join('\n')
    .trim();
}

test('every operation has forms, and every form is an operation', () => {
  assert.deepEqual([...new Set(FORMS.map(({ op }) => op))].toSorted(), Object.keys(ASYNC_OPS).toSorted());
});

for (const [arch, first, count] of [
  ['sm_80', 7, 22],
  ['sm_90', 7.8, 508],
  ['sm_90a', 8, 520],
  ['sm_100a', 8.6, 537],
] as const) {
  test(`all forms of ${arch} assemble, at the lowest version`, { skip: WITHOUT_PTXAS }, () => {
    assert.equal(assembleForms(FORMS, arch, first), count);
  });
}

test('what a form looks like', () => {
  assert.equal(
    code('tma_load', { rank: 2, mode: 'tile' }, ['ptr.shared', 'ptr.generic', 'ptr.shared', 'i32', 'i32']),
    'cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r0], [%d0, {%r2, %r3}], [%r1];',
  );
  assert.equal(
    code('cp_async', { bytes: 16 }, ['ptr.shared', 'ptr.global', 'i32']),
    'cp.async.cg.shared.global [%r0], [%d0], 16, %r1;',
  );
  assert.equal(
    code('bulk_store', { reduce: 'add', type: 'bf16' }, ['ptr.global', 'ptr.shared', 'i32']),
    'cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16 [%d0], [%r0], %r1;',
  );
});

test('what is no form is refused with the reason', () => {
  assert.throws(
    () => code('cp_async', { bytes: 8, cache: 'cg' }, ['ptr.shared', 'ptr.global']),
    /copies 16 bytes, not 8/,
  );
  assert.throws(() => code('cp_async', { bytes: 12 }, ['ptr.shared', 'ptr.global']), /4, 8 or 16 bytes, not 12/);
  assert.throws(() => code('set_max_registers', { count: 100, direction: 'inc' }, []), /multiple of 8/);
  assert.throws(() => code('set_max_registers', { count: 104, direction: 'inc' }, [], 'sm_90'), /needs sm_90a/);
  assert.throws(() => code('tma_load', { rank: 6 }, ['ptr.shared', 'ptr.generic', 'ptr.shared']), /rank 1 to 5/);
  assert.throws(
    () => code('tma_load', { rank: 2 }, ['ptr.shared', 'ptr.generic', 'ptr.shared', 'i32', 'i32', 'i32']),
    /6 operands, its attributes account for 5/,
  );
  assert.throws(
    () => code('reduce_async', { function: 'and' }, ['ptr.cluster', 'f32', 'ptr.cluster']),
    /for b32, not f32/,
  );
});
