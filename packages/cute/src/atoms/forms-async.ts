import type { TypeName } from '../types/dtype.ts';
import { BULK_REDUCTIONS, TENSOR_REDUCTIONS, TENSORMAP_FIELDS } from './bulk-forms.ts';
import { form, times, type InstructionForm } from './form.ts';

/** cp.async, mbarriers, bulk and tensor copies, tensor maps, proxy fences. */

/** With and without the optional operands of bulk copies, which come last. */
const EXTRAS: readonly { readonly attributes: Record<string, boolean>; readonly args: readonly TypeName[] }[] = [
  { attributes: {}, args: [] },
  { attributes: { multicast: true }, args: ['u16'] },
  { attributes: { policy: true }, args: ['u64'] },
  { attributes: { multicast: true, policy: true }, args: ['u16', 'u64'] },
];
const POLICIES = EXTRAS.filter((extra) => !extra.attributes.multicast);
const RANKS = [1, 2, 3, 4, 5] as const;

const CP_ASYNC: readonly InstructionForm[] = [
  ...[4, 8, 16].flatMap((bytes) => [
    form('cp_async', { bytes, cache: 'ca' }, ['ptr.shared', 'ptr.global']),
    form('cp_async', { bytes, cache: 'ca' }, ['ptr.shared', 'ptr.global', 'i32']),
  ]),
  form('cp_async', { bytes: 16, cache: 'cg' }, ['ptr.shared', 'ptr.global']),
  form('cp_async', { bytes: 16, cache: 'cg' }, ['ptr.shared', 'ptr.global', 'i32']),
  form('cp_async_commit'),
  ...[0, 1, 7].map((groups) => form('cp_async_wait', { groups })),
  form('cp_async_wait', { all: true }),
  form('cp_async_arrive', {}, ['ptr.shared']),
  form('cp_async_arrive', { noinc: true }, ['ptr.shared']),
];

const MBARRIER: readonly InstructionForm[] = [
  form('mbarrier_init', { count: 1 }, ['ptr.shared']),
  form('mbarrier_invalidate', {}, ['ptr.shared']),
  form('mbarrier_fence_init'),
  ...(['ptr.shared', 'ptr.cluster'] as const).flatMap((place) => [
    form('mbarrier_arrive', {}, [place]),
    form('mbarrier_arrive', { count: 3 }, [place]),
    form('mbarrier_arrive', { scope: 'cluster' }, [place]),
    form('mbarrier_expect', { bytes: 16384 }, [place]),
    form('mbarrier_expect', {}, [place, 'i32']),
    form('mbarrier_expect', { bytes: 128, arrive: false }, [place]),
  ]),
  ...(['u32', 'i32'] as const).flatMap((parity) => [
    form('mbarrier_try_wait', {}, ['ptr.shared', parity], ['pred']),
    form('mbarrier_try_wait', { scope: 'cluster', hint: 1000 }, ['ptr.shared', parity], ['pred']),
    form('mbarrier_wait', {}, ['ptr.shared', parity]),
    form('mbarrier_wait', { scope: 'cluster' }, ['ptr.shared', parity]),
  ]),
];

const BULK: readonly InstructionForm[] = [
  ...EXTRAS.flatMap(({ attributes, args }) =>
    (['ptr.shared', 'ptr.cluster'] as const).map((place) =>
      form('bulk_load', attributes, [place, 'ptr.global', 'i32', place, ...args]),
    ),
  ),
  ...POLICIES.flatMap(({ attributes, args }) => [
    form('bulk_store', attributes, ['ptr.global', 'ptr.shared', 'i32', ...args]),
    ...Object.entries(BULK_REDUCTIONS).flatMap(([reduce, types]) =>
      types.map((type) =>
        form('bulk_store', { ...attributes, reduce, type }, ['ptr.global', 'ptr.shared', 'i32', ...args]),
      ),
    ),
  ]),
  form('bulk_copy_cluster', {}, ['ptr.cluster', 'ptr.shared', 'i32', 'ptr.cluster']),
  form('bulk_prefetch', {}, ['ptr.global', 'i32']),
  form('bulk_commit'),
  form('bulk_wait', { groups: 0 }),
  form('bulk_wait', { groups: 1, read: true }),
];

const TMA: readonly InstructionForm[] = [
  ...RANKS.flatMap((rank) =>
    EXTRAS.flatMap(({ attributes, args }) =>
      (['ptr.shared', 'ptr.cluster'] as const).map((place) =>
        form('tma_load', { rank, mode: 'tile', ...attributes }, [
          ...([place, 'ptr.generic', place] as const),
          ...times<TypeName>(rank, 'i32'),
          ...args,
        ]),
      ),
    ),
  ),
  ...RANKS.filter((rank) => rank >= 3).flatMap((rank) =>
    EXTRAS.map(({ attributes, args }) =>
      form('tma_load', { rank, mode: 'im2col', ...attributes }, [
        ...(['ptr.shared', 'ptr.generic', 'ptr.shared'] as const),
        ...times<TypeName>(rank, 'i32'),
        ...times<TypeName>(rank - 2, 'u16'),
        ...args,
      ]),
    ),
  ),
  ...EXTRAS.map(({ attributes, args }) =>
    form('tma_load', { rank: 2, mode: 'gather4', ...attributes }, [
      ...(['ptr.shared', 'ptr.generic', 'ptr.shared'] as const),
      ...times<TypeName>(5, 'i32'),
      ...args,
    ]),
  ),
  ...[1, 2].flatMap((group) =>
    EXTRAS.map(({ attributes, args }) =>
      form('tma_load', { rank: 2, mode: 'tile', cta_group: group, ...attributes }, [
        ...(['ptr.shared', 'ptr.generic', 'ptr.shared'] as const),
        ...times<TypeName>(2, 'i32'),
        ...args,
      ]),
    ),
  ),
  ...RANKS.flatMap((rank) =>
    POLICIES.flatMap(({ attributes, args }) => {
      const operands: TypeName[] = ['ptr.generic', 'ptr.shared', ...times<TypeName>(rank, 'i32'), ...args];
      const stores = [undefined, ...TENSOR_REDUCTIONS].flatMap((reduce) =>
        (rank >= 3 ? ['tile', 'im2col'] : ['tile']).map((mode) =>
          form('tma_store', { rank, mode, ...attributes, ...(reduce ? { reduce } : {}) }, operands),
        ),
      );
      return [...stores, form('tma_prefetch', { rank, ...attributes }, operands.toSpliced(1, 1))];
    }),
  ),
  form('tma_store', { rank: 2, mode: 'scatter4' }, ['ptr.generic', 'ptr.shared', ...times<TypeName>(5, 'i32')]),
  form('tma_prefetch', { rank: 2, mode: 'gather4' }, ['ptr.generic', ...times<TypeName>(5, 'i32')]),
  form('tma_prefetch', { rank: 4, mode: 'im2col' }, ['ptr.generic', ...times<TypeName>(4, 'i32'), 'u16', 'u16']),
];

const TENSORMAPS: readonly InstructionForm[] = [
  form('tensormap_prefetch', {}, ['ptr.generic']),
  ...Object.entries(TENSORMAP_FIELDS).map(([field, { bits, indexed, constant }]) =>
    form(
      'tensormap_replace',
      { field, ...(indexed ? { index: 1 } : {}), ...(constant ? { value: 1 } : {}) },
      constant ? ['ptr.shared'] : ['ptr.shared', bits === 64 ? 'u64' : 'u32'],
    ),
  ),
  form('tensormap_copy_fence', {}, ['ptr.global', 'ptr.shared']),
  form('tensormap_acquire', {}, ['ptr.global']),
  form('tensormap_acquire', {}, ['ptr.generic']),
  ...['shared', 'global', 'all'].map((space) => form('fence_proxy_async', { space })),
];

export const ASYNC_FORMS: readonly InstructionForm[] = [...CP_ASYNC, ...MBARRIER, ...BULK, ...TMA, ...TENSORMAPS];
