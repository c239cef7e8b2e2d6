import assert from 'node:assert/strict';
import { test } from 'node:test';
import { form, times } from '../src/atoms/form.ts';
import { MATRIX_FORMS } from '../src/atoms/forms-matrix.ts';
import { TCGEN05_FORMS } from '../src/atoms/forms-tcgen05.ts';
import { MATRIX_OPS } from '../src/ir/ops-matrix.ts';
import type { TypeName } from '../src/types/dtype.ts';
import { assembleForms } from './forms-assemble.ts';
import { entryOf } from './forms.ts';
import { WITHOUT_PTXAS } from './ptxas.ts';

const FORMS = [...MATRIX_FORMS, ...TCGEN05_FORMS];
const WARP_FORMS = FORMS.filter(({ op }) => op !== 'wgmma');

test('every operation has forms, and every form is an operation', () => {
  assert.deepEqual([...new Set(FORMS.map(({ op }) => op))].toSorted(), Object.keys(MATRIX_OPS).toSorted());
});

for (const [arch, first, count] of [
  ['sm_80', 7, 33],
  ['sm_89', 7.8, 49],
  ['sm_90a', 8, 64],
  ['sm_100a', 8.6, 322],
] as const) {
  test(`all forms of ${arch} but wgmma assemble, at the lowest version`, { skip: WITHOUT_PTXAS }, () => {
    assert.equal(assembleForms(WARP_FORMS, arch, first), count);
  });
}

function wgmma(
  attributes: Parameters<typeof form>[1],
  registers: number,
  args: TypeName[] = ['u64', 'u64', 'pred'],
): string {
  const { code } = entryOf(form('wgmma', attributes, args, [], times<TypeName>(registers, 'f32')), 'k', 'sm_90a');
  return code.join('\n').trim();
}

test('wgmma: accumulators in place, scale, signs and transposition', () => {
  const attributes = { shape: 'm64n8k16', a: 'bf16', b: 'bf16', d: 'f32', transpose_b: true };
  assert.equal(
    wgmma(attributes, 4),
    'wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r0, %r1, %r2, %r3}, %d0, %d1, %p0, 1, 1, 0, 1;',
  );
  assert.throws(() => wgmma({ ...attributes, shape: 'm64n12k16' }, 4), /no N of 12/);
  assert.throws(() => wgmma({ ...attributes, shape: 'm64n8k8' }, 4), /m64n8k16, not m64n8k8/);
  assert.throws(() => wgmma(attributes, 8), /4 accumulators of type f32/);
  assert.throws(() => wgmma({ ...attributes, shape: 'm64n8k8', a: 'tf32', b: 'tf32' }, 4), /does not transpose/);
  assert.throws(() => wgmma({ ...attributes, b: 'f16' }, 4), /does not multiply bf16 by f16/);
});

test('what is no form is refused with the reason', () => {
  const code = (...args: Parameters<typeof form>): string[] => entryOf(form(...args), 'k', 'sm_100a').code;
  assert.throws(() => code('ldmatrix', { count: 3 }, ['ptr.shared'], ['b32', 'b32', 'b32']), /1, 2 or 4 matrices/);
  assert.throws(() => code('ldmatrix', { count: 4 }, ['ptr.shared'], ['b32']), /gives 4 registers, not 1/);
  assert.throws(() => code('mma', { shape: 'm16n8k4', a: 'f16', b: 'f16', d: 'f32' }), /no mma m16n8k4 of f16/);
  assert.throws(() => code('tcgen05_alloc', { columns: 48 }, ['ptr.shared']), /powers of two from 32/);
  assert.throws(() => code('tcgen05_load', { shape: '16x256b', repeat: 64 }, ['ptr.tmem']), /at most 32/);
  assert.throws(
    () => code('tcgen05_descriptor', { leading: 8, stride: 0, swizzle: 'none' }, ['ptr.shared'], ['u64']),
    /16 bytes/,
  );
  const args: TypeName[] = ['ptr.tmem', 'u64', 'u64', 'u32', 'pred'];
  assert.throws(() => entryOf(form('tcgen05_mma', { kind: 'i8' }, args), 'k', 'sm_103a'), /kind i8 is for sm_100a/);
  assert.throws(() => code('tcgen05_mma', { kind: 'mxf4', block: '2X' }, args), /addresses of A's and B's scales/);
});
