import { form, type InstructionForm } from '../src/atoms/form.ts';
import { TYPES, type TypeName } from '../src/types/dtype.ts';

/** Every form of the scalar, conversion, memory and synchronisation families. */

const INTEGERS = ['i16', 'u16', 'i32', 'u32', 'i64', 'u64'] as const;
const SMALL = ['i8', 'u8'] as const;
const FLOATS = ['f32', 'f64', 'f16', 'bf16', 'f16x2', 'bf16x2', 'f32x2'] as const;
const NUMBERS: readonly TypeName[] = [...SMALL, ...INTEGERS, ...FLOATS];
const BITS: readonly TypeName[] = ['b16', 'b32', 'b64', 'u32', 'i64', 'pred'];

function same(op: string, types: readonly TypeName[], arity: number, attributes = {}): InstructionForm[] {
  return types.map((type) => form(op, attributes, Array<TypeName>(arity).fill(type), [type]));
}

const ARITHMETIC: readonly InstructionForm[] = [
  ...['add', 'sub', 'mul', 'min', 'max'].flatMap((op) => same(op, NUMBERS, 2)),
  ...['min', 'max'].flatMap((op) =>
    same(
      op,
      FLOATS.filter((type) => type !== 'f64'),
      2,
      { nan: true },
    ),
  ),
  ...same('div', [...SMALL, ...INTEGERS, 'f32', 'f64', 'f16', 'bf16'], 2),
  ...same('div', ['f32'], 2, { approx: true }),
  ...same('rem', [...SMALL, ...INTEGERS], 2),
  ...same('neg', NUMBERS, 1),
  ...same('abs', NUMBERS, 1),
  ...same('fma', FLOATS, 3),
  ...same('mad', INTEGERS, 3),
  ...same('mulhi', ['i32', 'u32', 'i64', 'u64'], 2),
  form('mulwide', {}, ['i32', 'i32'], ['i64']),
  form('mulwide', {}, ['u32', 'u32'], ['u64']),
  ...['and', 'or', 'xor'].flatMap((op) => same(op, BITS, 2)),
  ...same('not', BITS, 1),
  ...[...SMALL, ...INTEGERS, 'b32' as const].flatMap((type) => [
    form('shl', {}, [type, 'i32'], [type]),
    form('shr', {}, [type, 'u32'], [type]),
  ]),
  ...same('bfe', ['i32', 'u32', 'i64', 'u64'], 3),
  form('bfi', {}, ['u32', 'u32', 'i32', 'i32'], ['u32']),
  form('bfi', {}, ['u64', 'u64', 'i32', 'i32'], ['u64']),
  ...same('prmt', ['b32', 'u32'], 3),
  ...same('lop3', ['b32'], 3, { lut: 0xea }),
  ...['l', 'r'].flatMap((direction) =>
    ['wrap', 'clamp'].map((mode) => form('shf', { direction, mode }, ['u32', 'u32', 'u32'], ['u32'])),
  ),
  ...(['u32', 'i32', 'b32', 'u64', 'b64'] as const).flatMap((type) => [
    form('popc', {}, [type], ['u32']),
    form('clz', {}, [type], ['u32']),
    form('brev', {}, [type], [type]),
  ]),
  form('dp4a', { signs: 'ss' }, ['b32', 'b32', 'i32'], ['i32']),
  form('dp4a', { signs: 'su' }, ['b32', 'b32', 'i32'], ['i32']),
  form('dp4a', { signs: 'uu' }, ['b32', 'b32', 'u32'], ['u32']),
  ...['ex2', 'lg2', 'rsqrt', 'rcp', 'sqrt', 'tanh', 'sin', 'cos'].flatMap((name) =>
    same('approx', ['f32'], 1, { function: name }),
  ),
  ...['ex2', 'tanh'].flatMap((name) => same('approx', ['f16', 'f16x2', 'bf16', 'bf16x2'], 1, { function: name })),
  ...same('sqrt', ['f32', 'f64'], 1),
  ...same('rcp', ['f32', 'f64'], 1),
];

const COMPARE: readonly InstructionForm[] = [
  ...['eq', 'ne', 'lt', 'le', 'gt', 'ge'].flatMap((test) =>
    [...SMALL, ...INTEGERS, 'f32' as const, 'f64' as const, 'f16' as const, 'bf16' as const, 'ptr.global' as const].map(
      (type) => form('compare', { test }, [type, type], ['pred']),
    ),
  ),
  ...['equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'num', 'nan'].map((test) =>
    form('compare', { test }, ['f32', 'f32'], ['pred']),
  ),
  ...['eq', 'ne'].flatMap((test) =>
    (['pred', 'b16', 'b32', 'b64'] as const).map((type) => form('compare', { test }, [type, type], ['pred'])),
  ),
  ...(['pred', 'e4m3', 'u16', 'bf16', 'f32', 'i32', 'f64', 'u64', 'b128', 'ptr.shared'] as const).map((type) =>
    form('select', {}, ['pred', type, type], [type]),
  ),
];

const SCALARS = ['i8', 'u8', ...INTEGERS, 'f16', 'bf16', 'f32', 'f64', 'e4m3', 'e5m2', 'pred'] as const;

const CONVERT: readonly InstructionForm[] = [
  ...SCALARS.flatMap((from) => SCALARS.map((to) => form('convert', {}, [from], [to]))),
  form('convert', {}, ['f32'], ['tf32']),
  form('convert', {}, ['tf32'], ['f32']),
  ...['rz', 'rm', 'rp'].flatMap((round) => [
    form('convert', { round }, ['f32'], ['i32']),
    form('convert', { round }, ['f32'], ['f16']),
    form('convert', { round }, ['i32'], ['f32']),
    form('convert', { round }, ['f64'], ['f32']),
  ]),
  form('convert', { round: 'rn' }, ['f32'], ['i32']),
  form('convert', { round: 'rz' }, ['f32'], ['bf16']),
  form('convert', { relu: true }, ['f32'], ['bf16']),
  form('convert', { relu: true }, ['f32'], ['e4m3']),
  form('convert', { saturate: true }, ['f32'], ['f32']),
  form('convert', { saturate: true }, ['i32'], ['i8']),
  form('convert', { saturate: true }, ['f32'], ['f16']),
  ...(['f16x2', 'bf16x2', 'e4m3x2', 'e5m2x2'] as const).flatMap((to) => [
    form('convert', {}, ['f32', 'f32'], [to]),
    form('convert', { relu: true }, ['f32', 'f32'], [to]),
  ]),
  form('convert', {}, ['f32', 'f32', 'f32', 'f32'], ['e4m3x4']),
  form('convert', {}, ['e4m3x2'], ['f16x2']),
  form('convert', {}, ['e5m2x2'], ['f16x2']),
  form('convert', {}, ['f16x2'], ['e4m3x2']),
  form('bitcast', {}, ['f32'], ['u32']),
  form('bitcast', {}, ['bf16x2'], ['b32']),
  form('bitcast', {}, ['e4m3'], ['u8']),
  ...(
    [
      [['f16', 'f16'], 'f16x2'],
      [['bf16', 'bf16'], 'bf16x2'],
      [['u16', 'u16', 'u16', 'u16'], 'b64'],
      [['u32', 'u32'], 'b64'],
      [['f32', 'f32'], 'f32x2'],
      [['e4m3', 'e4m3'], 'e4m3x2'],
      [['u8', 'u8', 'u8', 'u8'], 'b32'],
      [Array<TypeName>(8).fill('i8'), 'b64'],
      [['u64', 'u64'], 'b128'],
      [['u32', 'u32', 'u32', 'u32'], 'b128'],
    ] as [TypeName[], TypeName][]
  ).flatMap(([pieces, whole]) => [form('pack', {}, pieces, [whole]), form('unpack', {}, [whole], pieces)]),
];

const SPACES = ['ptr.global', 'ptr.generic', 'ptr.shared', 'ptr.cluster'] as const;
const ELEMENTS = ['e4m3', 'u8', 'bf16', 'i16', 'f32', 'i32', 'f64', 'u64', 'bf16x2', 'b128'] as const;

const MEMORY: readonly InstructionForm[] = [
  ...SPACES.flatMap((space) =>
    ELEMENTS.flatMap((type) =>
      [1, 2, 4, 8, 16]
        .filter((count) => (count * TYPES[type].bits) / 8 <= 32)
        .flatMap((count) =>
          [TYPES[type].bits / 8, Math.min(32, (count * TYPES[type].bits) / 8)].flatMap((align) => {
            const types = Array<TypeName>(count).fill(type);
            return [
              form('load', { align, count }, [space], types),
              form('store', { align, count, bytes: 32 }, [space, ...types]),
            ];
          }),
        ),
    ),
  ),
  ...['relaxed', 'acquire', 'volatile', 'nc'].map((order) =>
    form('load', { order, scope: 'sys' }, ['ptr.global'], ['u32']),
  ),
  ...['relaxed', 'release', 'volatile'].map((order) => form('store', { order, scope: 'sys' }, ['ptr.global', 'u32'])),
  ...['cta', 'cluster', 'gpu', 'sys'].map((scope) =>
    form('load', { order: 'acquire', scope }, ['ptr.generic'], ['u32']),
  ),
  form('load', { order: 'volatile', align: 16 }, ['ptr.global'], ['u32', 'u32', 'u32', 'u32']),
  ...['evict_first', 'evict_last', 'no_allocate', 'evict_normal', 'evict_unchanged'].map((l1) =>
    form('load', { l1, order: 'nc' }, ['ptr.global'], ['f32']),
  ),
  ...['evict_first', 'evict_last', 'evict_normal', 'evict_unchanged'].flatMap((l2) => [
    form('load', { l2 }, ['ptr.global'], ['f32']),
    form('store', { l2 }, ['ptr.global', 'f32']),
    form('cache_policy', { l2, fraction: 0.5 }, [], ['u64']),
  ]),
  ...[64, 128, 256].map((prefetch) =>
    form('load', { prefetch, order: 'nc', l1: 'no_allocate' }, ['ptr.global'], ['f32']),
  ),
  form('load', {}, ['ptr.global', 'u64'], ['f32']),
  ...['ca', 'cg', 'cs', 'lu', 'cv'].map((cache) => form('load', { cache }, ['ptr.global'], ['f32'])),
  ...['ca', 'cg', 'cs'].map((cache) => form('load', { cache, order: 'nc' }, ['ptr.global'], ['f32'])),
  ...['wb', 'cg', 'cs', 'wt'].map((cache) => form('store', { cache }, ['ptr.global', 'f32'])),
  form('store', { l1: 'no_allocate' }, ['ptr.global', 'f32', 'u64']),
  ...SPACES.flatMap((space) => [
    ...(['i32', 'u32', 'i64', 'u64'] as const).flatMap((index) => [
      form('ptr_add', {}, [space, index], [space]),
      form('ptr_add', { scale: 4, bytes: -16 }, [space, index], [space]),
    ]),
    form('ptr_add', { bytes: 64 }, [space], [space]),
    form('ptr_cast', {}, [space], ['ptr.generic']),
    form('ptr_cast', {}, ['ptr.generic'], [space]),
  ]),
  form('ptr_add', { scale: -4 }, ['ptr.global', 'u32'], ['ptr.global']),
  form('ptr_cast', {}, ['ptr.shared'], ['ptr.cluster']),
  form('ptr_bits', {}, ['ptr.shared'], ['u32']),
  form('ptr_bits', {}, ['u64'], ['ptr.global']),
  ...['l1', 'l2'].map((level) => form('prefetch', { level }, ['ptr.global'])),
];

const ATOMIC_TYPES: readonly (readonly [string, readonly TypeName[]])[] = [
  ['add', ['i32', 'u32', 'i64', 'u64', 'f32', 'f64', 'f16', 'bf16', 'f16x2', 'bf16x2']],
  ['min', ['i32', 'u32', 'i64', 'u64']],
  ['max', ['i32', 'u32', 'i64', 'u64']],
  ['and', ['b32', 'u32', 'b64']],
  ['or', ['b32']],
  ['xor', ['u64']],
  ['inc', ['u32']],
  ['dec', ['u32']],
];

const ATOMICS: readonly InstructionForm[] = [
  ...ATOMIC_TYPES.flatMap(([name, types]) =>
    types.flatMap((type) => [
      form('atomic', { function: name }, ['ptr.global', type], [type]),
      form('reduce', { function: name }, ['ptr.global', type]),
      form('atomic', { function: name, order: 'acq_rel', scope: 'cta' }, ['ptr.shared', type], [type]),
    ]),
  ),
  ...(['u32', 'f32', 'u64', 'b128'] as const).map((type) =>
    form('atomic', { function: 'exch' }, ['ptr.global', type], [type]),
  ),
  ...(['u16', 'u32', 'i64', 'b128'] as const).map((type) =>
    form('atomic', { function: 'cas', order: 'acquire', scope: 'sys' }, ['ptr.global', type, type], [type]),
  ),
  ...([2, 4] as const).flatMap((count) =>
    (['f32', 'bf16x2', 'f16', 'bf16'] as const).map((type) =>
      form('reduce', { function: 'add', count }, ['ptr.global', ...Array<TypeName>(count).fill(type)]),
    ),
  ),
  form('reduce', { function: 'add', order: 'release', scope: 'sys' }, ['ptr.global', 'u32']),
];

const SYNC: readonly InstructionForm[] = [
  form('barrier'),
  form('barrier', { id: 3, count: 64 }),
  form('barrier', { aligned: false }),
  form('barrier', { id: 1, count: 64, aligned: false }),
  form('barrier_arrive', { id: 1, count: 64 }),
  form('barrier_arrive', { id: 1, count: 64, aligned: false }),
  form('barrier_reduce', { function: 'and' }, ['pred'], ['pred']),
  form('barrier_reduce', { function: 'or', id: 2, count: 64 }, ['pred'], ['pred']),
  form('barrier_reduce', { function: 'popc' }, ['pred'], ['u32']),
  form('warp_sync'),
  form('warp_sync', { mask: 255 }),
  ...['bfly', 'idx', 'up', 'down'].flatMap((mode) => [
    form('shuffle', { mode }, ['f32', 'i32'], ['f32']),
    form('shuffle', { mode, width: 8 }, ['bf16x2', 'i32'], ['bf16x2', 'pred']),
  ]),
  ...['all', 'any', 'uni'].map((name) => form('vote', { function: name }, ['pred'], ['pred'])),
  form('vote', { function: 'ballot' }, ['pred'], ['u32']),
  form('match', { function: 'any' }, ['u32'], ['u32']),
  form('match', { function: 'all' }, ['u64'], ['u32', 'pred']),
  ...['add', 'min', 'max'].flatMap((name) => [
    form('warp_reduce', { function: name }, ['i32'], ['i32']),
    form('warp_reduce', { function: name }, ['u32'], ['u32']),
  ]),
  ...['and', 'or', 'xor'].map((name) => form('warp_reduce', { function: name }, ['u32'], ['u32'])),
  ...['min', 'max'].map((name) => form('warp_reduce', { function: name }, ['f32'], ['f32'])),
  form('elect', {}, [], ['pred']),
  form('active_mask', {}, [], ['u32']),
  ...['acq_rel', 'sc'].flatMap((order) =>
    ['cta', 'cluster', 'gpu', 'sys'].map((scope) => form('fence', { order, scope })),
  ),
  form('nanosleep', {}, ['u32']),
  ...[
    'tid.x',
    'ctaid.y',
    'nctaid.z',
    'ntid.x',
    'laneid',
    'warpid',
    'smid',
    'lanemask_lt',
    'cluster_ctaid.x',
    'cluster_ctarank',
    'cluster_nctaid.x',
    'cluster_nctarank',
  ].map((name) => form('special', { name }, [], ['i32'])),
  ...['clock64', 'globaltimer'].map((name) => form('clock', { name }, [], ['u64'])),
  form('asm', { template: '{ .reg .b32 t;\nadd.u32 t, $1, $2;\nxor.b32 $0, t, $1; }' }, ['u32', 'u32'], ['u32']),
];

export const SCALAR_FORMS: readonly InstructionForm[] = [
  ...ARITHMETIC,
  ...COMPARE,
  ...CONVERT,
  ...MEMORY,
  ...ATOMICS,
  ...SYNC,
];
