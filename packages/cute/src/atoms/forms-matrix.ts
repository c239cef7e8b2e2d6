import type { TypeName } from '../types/dtype.ts';
import { form, times, type InstructionForm } from './form.ts';
import { accumulatorRegister, MMA_SHAPES, WGMMA_TYPES, wgmmaColumns, wgmmaShape } from './mma-shapes.ts';
import { SWIZZLE_MODES } from './descriptors.ts';
import { UNPACKED_FORMATS } from './tcgen05-shapes.ts';

/** ldmatrix, stmatrix, movmatrix, mma.sync, wgmma and matrix descriptors. */

const LOADS: readonly InstructionForm[] = [1, 2, 4].flatMap((count) => [
  ...[false, true].flatMap((transpose) => [
    form('ldmatrix', { count, transpose }, ['ptr.shared'], times<TypeName>(count, 'b32')),
    form('stmatrix', { count, transpose }, ['ptr.shared', ...times<TypeName>(count, 'b32')]),
  ]),
  form('stmatrix', { count, transpose: true, shape: 'm16n8' }, ['ptr.shared', ...times<TypeName>(count, 'b32')]),
  ...UNPACKED_FORMATS.map((source) =>
    form('ldmatrix', { count, shape: 'm8n16', source }, ['ptr.shared'], times<TypeName>(count, 'b32')),
  ),
  ...(count === 4
    ? []
    : [undefined, ...UNPACKED_FORMATS].map((source) =>
        form(
          'ldmatrix',
          { count, transpose: true, shape: 'm16n16', ...(source ? { source } : {}) },
          ['ptr.shared'],
          times<TypeName>(2 * count, 'b32'),
        ),
      )),
]);

const MMA: readonly InstructionForm[] = MMA_SHAPES.flatMap(({ shape, a, b, d, registers }) =>
  (d === 'i32' ? [false, true] : [false]).map((saturate) => {
    const sums = times(registers.d, accumulatorRegister(d));
    const args = [...times<TypeName>(registers.a + registers.b, 'b32'), ...sums];
    return form('mma', { shape, a, b, d, ...(saturate ? { saturate } : {}) }, args, sums);
  }),
);

const WGMMA: readonly InstructionForm[] = WGMMA_TYPES.flatMap((types) =>
  wgmmaColumns(types.a).flatMap((n) => {
    const { shape, registers } = wgmmaShape(n, types);
    const slots = times(registers.d, accumulatorRegister(types.d));
    const attributes = { shape, ...types };
    return [
      form('wgmma', { ...attributes, a_registers: true }, [...times<TypeName>(4, 'b32'), 'u64', 'pred'], [], slots),
      form('wgmma', attributes, ['u64', 'u64', 'pred'], [], slots),
    ];
  }),
);

/** The modifiers do not depend on N: one N shows them. */
const WGMMA_MODIFIERS: readonly InstructionForm[] = WGMMA_TYPES.flatMap((types) => {
  const { shape, registers } = wgmmaShape(64, types);
  const slots = times(registers.d, accumulatorRegister(types.d));
  const args: TypeName[] = ['u64', 'u64', 'pred'];
  if (types.d === 'i32') return [form('wgmma', { shape, ...types, saturate: true }, args, [], slots)];
  const negated = form('wgmma', { shape, ...types, negate_a: true, negate_b: true }, args, [], slots);
  if (types.a !== 'f16' && types.a !== 'bf16') return [negated];
  return [
    negated,
    ...[{ transpose_a: true }, { transpose_b: true }, { transpose_a: true, transpose_b: true }].map((transposed) =>
      form('wgmma', { shape, ...types, ...transposed }, args, [], slots),
    ),
    form(
      'wgmma',
      { shape, ...types, a_registers: true, transpose_b: true },
      [...times<TypeName>(4, 'b32'), 'u64', 'pred'],
      [],
      slots,
    ),
  ];
});

export const MATRIX_FORMS: readonly InstructionForm[] = [
  ...LOADS,
  form('movmatrix', {}, ['b32'], ['b32']),
  ...MMA,
  form('wgmma_fence'),
  form('wgmma_commit'),
  ...[0, 1, 7].map((groups) => form('wgmma_wait', { groups })),
  ...WGMMA,
  ...WGMMA_MODIFIERS,
  ...SWIZZLE_MODES.flatMap((swizzle) => [
    form('wgmma_descriptor', { leading: 16, stride: 1024, swizzle }, ['ptr.shared'], ['u64']),
    form('tcgen05_descriptor', { leading: 16, stride: 1024, swizzle }, ['ptr.shared'], ['u64']),
  ]),
  form('descriptor_add', { bytes: 32 }, ['u64'], ['u64']),
  form('descriptor_add', {}, ['u64', 'i32'], ['u64']),
];
