import type { TypeName } from '../types/dtype.ts';
import { form, times, type InstructionForm } from './form.ts';
import {
  TCGEN05_COPIES,
  TCGEN05_KIND_NAMES,
  TCGEN05_KINDS,
  TMEM_ACCESS,
  TMEM_SHAPES,
  tmemRegisters,
  UNPACKED_FORMATS,
} from './tcgen05-shapes.ts';

/** Tensor memory and its tensor cores. */

const GROUPS = [1, 2] as const;

const ACCESSES: readonly InstructionForm[] = TMEM_SHAPES.flatMap((shape) => {
  const out: InstructionForm[] = [];
  for (let repeat = 1; repeat <= TMEM_ACCESS[shape].most; repeat *= 2) {
    const values = times<TypeName>(tmemRegisters(shape, repeat), 'b32');
    const attributes = { shape, repeat, ...(shape === '16x32bx2' ? { half_offset: 16 } : {}) };
    out.push(
      form('tcgen05_load', attributes, ['ptr.tmem'], values),
      form('tcgen05_load', { ...attributes, pack: true }, ['ptr.tmem'], values),
      form('tcgen05_store', attributes, ['ptr.tmem', ...values]),
      form('tcgen05_store', { ...attributes, unpack: true }, ['ptr.tmem', ...values]),
    );
  }
  return out;
});

const PRODUCTS: readonly InstructionForm[] = TCGEN05_KIND_NAMES.flatMap((kind) =>
  GROUPS.flatMap((cta_group) =>
    [false, true].flatMap((a_tmem) => {
      const args: TypeName[] = ['ptr.tmem', a_tmem ? 'ptr.tmem' : 'u64', 'u64', 'u32', 'pred'];
      const attributes = { kind, cta_group, ...(a_tmem ? { a_tmem } : {}) };
      const scales: readonly string[] = TCGEN05_KINDS[kind].scales;
      if (scales.length === 0) return [form('tcgen05_mma', attributes, args)];
      return scales.map((block) => form('tcgen05_mma', { ...attributes, block }, [...args, 'ptr.tmem', 'ptr.tmem']));
    }),
  ),
);

const COPIES: readonly InstructionForm[] = Object.entries(TCGEN05_COPIES).flatMap(([shape, ways]) =>
  ways.flatMap((multicast) =>
    GROUPS.flatMap((cta_group) =>
      [undefined, ...UNPACKED_FORMATS].map((source) =>
        form('tcgen05_copy', { shape, cta_group, multicast, ...(source ? { source } : {}) }, ['ptr.tmem', 'u64']),
      ),
    ),
  ),
);

export const TCGEN05_FORMS: readonly InstructionForm[] = [
  ...GROUPS.flatMap((cta_group) => [
    ...[32, 64, 128, 256, 512].flatMap((columns) => [
      form('tcgen05_alloc', { columns, cta_group }, ['ptr.shared']),
      form('tcgen05_dealloc', { columns, cta_group }, ['ptr.tmem']),
    ]),
    form('tcgen05_relinquish', { cta_group }),
    form('tcgen05_commit', { cta_group }, ['ptr.shared']),
    form('tcgen05_commit', { cta_group, multicast: true }, ['ptr.shared', 'u16']),
    form('tcgen05_shift', { cta_group }, ['ptr.tmem']),
  ]),
  ...ACCESSES,
  ...['load', 'store'].map((direction) => form('tcgen05_wait', { direction })),
  ...PRODUCTS,
  ...COPIES,
  ...['before_thread_sync', 'after_thread_sync'].map((when) => form('tcgen05_fence', { when })),
];
