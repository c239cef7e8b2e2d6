import type { Attributes } from './ir.ts';
import { op, type Needs, type OpInfo } from './op-info.ts';

/** Shapes of 8-bit elements and unpacking are Blackwell's. */
const MATRICES =
  (isa: number, target: Needs['target']) =>
  ({ shape, source }: Attributes): Needs =>
    (shape ?? 'm8n8') === 'm8n8' && source === undefined ? { isa, target } : { isa: 8.6, target: 'sm_100a' };
const WGMMA = (): Needs => ({ isa: 8, target: 'sm_90a' });
const BLACKWELL = (): Needs => ({ isa: 8.6, target: 'sm_100a' });

/** Tensor cores and the loads that feed them. Fragment layouts are those of the PTX ISA, as atoms/ states them. */
export const MATRIX_OPS: Readonly<Record<string, OpInfo>> = {
  ldmatrix: op(
    '(ptr.shared) -> 1|2|4 b32; count, transpose, shape: m8n8 (b16); m16n16 (b8, two b32 a matrix) and m8n16, source: b6x16_p32|b4x16_p64 on sm_100a.',
    {
      effect: 'read',
      convergence: 'warp',
      needs: MATRICES(7, 'sm_80'),
    },
  ),
  stmatrix: op('(ptr.shared, b32 x count); count, transpose, shape: m8n8 (b16), m16n8 (b8, sm_100a).', {
    effect: 'write',
    convergence: 'warp',
    needs: MATRICES(7.8, 'sm_90'),
  }),
  movmatrix: op('(b32) -> b32: transposes an 8x8 matrix of b16.', {
    effect: 'sync',
    convergence: 'warp',
    needs: () => ({ isa: 7.8, target: 'sm_80' }),
  }),
  mma: op(
    '(a: b32.., b: b32.., c: f32|i32|f16x2..) -> d as c; shape: m16n8k16|m16n8k8|m16n8k32..., a, b: element types, d: f32|f16|i32.',
    { effect: 'sync', convergence: 'warp' },
  ),
  wgmma_fence: op('(): before the first wgmma and after registers were written.', {
    effect: 'sync',
    convergence: 'warpgroup',
    needs: WGMMA,
  }),
  wgmma: op(
    '([4 x b32 a | u64 descriptor a], u64 descriptor b, pred scale_d); slots: accumulators, in place. shape: m64nNk16 and so on, ' +
      'd: f32|f16|i32, a, b: element types, a_registers, negate_a, negate_b, transpose_a, transpose_b.',
    {
      effect: 'write',
      convergence: 'warpgroup',
      needs: ({ a, b }) => ({ isa: a !== b && (a === 'i8' || a === 'u8') ? 8.4 : 8, target: 'sm_90a' }),
    },
  ),
  wgmma_commit: op('()', { effect: 'sync', convergence: 'warpgroup', needs: WGMMA }),
  wgmma_wait: op('(); groups; slots: accumulators that are read afterwards.', {
    effect: 'sync',
    convergence: 'warpgroup',
    needs: WGMMA,
  }),
  wgmma_descriptor: op('(ptr.shared) -> u64; leading, stride (bytes), swizzle: none|32|64|128, base_offset.', {
    needs: WGMMA,
  }),
  tcgen05_descriptor: op(
    '(ptr.shared) -> u64; as wgmma_descriptor, absolute_leading: the leading offset is an address.',
    { needs: BLACKWELL },
  ),
  descriptor_add: op('(u64[, i32 bytes]) -> u64: moves the address field; bytes: known offset.'),

  tcgen05_alloc: op('(ptr.shared: receives the address); columns: power of two 32..512, cta_group.', {
    effect: 'sync',
    convergence: 'warp',
    needs: BLACKWELL,
  }),
  tcgen05_dealloc: op('(ptr.tmem); columns, cta_group.', { effect: 'sync', convergence: 'warp', needs: BLACKWELL }),
  tcgen05_relinquish: op('(); cta_group.', { effect: 'sync', convergence: 'warp', needs: BLACKWELL }),
  tcgen05_load: op(
    '(ptr.tmem) -> b32 x n; shape: 16x64b|16x128b|16x256b|32x32b|16x32bx2, repeat 1..128, pack, half_offset (16x32bx2).',
    {
      effect: 'read',
      convergence: 'warp',
      needs: BLACKWELL,
    },
  ),
  tcgen05_store: op('(ptr.tmem, b32 x n); shape, repeat, unpack, half_offset.', {
    effect: 'write',
    convergence: 'warp',
    needs: BLACKWELL,
  }),
  tcgen05_wait: op('(); direction: load|store.', { effect: 'sync', convergence: 'warp', needs: BLACKWELL }),
  tcgen05_mma: op(
    '(ptr.tmem d, u64 descriptor a | ptr.tmem a, u64 descriptor b, u32 instruction descriptor, pred accumulate[, ptr.tmem scale a, ptr.tmem scale b]); ' +
      'kind: f16|tf32|f8f6f4|i8|mxf8f6f4|mxf4|mxf4nvf4, cta_group, a_tmem, block: scale vectors 1X|2X|4X.',
    { effect: 'write', needs: ({ kind }) => ({ isa: kind === 'mxf4nvf4' ? 8.7 : 8.6, target: 'sm_100a' }) },
  ),
  tcgen05_commit: op('(ptr mbarrier[, u16 mask]); cta_group, multicast.', { effect: 'sync', needs: BLACKWELL }),
  tcgen05_copy: op(
    '(ptr.tmem, u64 descriptor); shape: 128x256b|4x256b|128x128b|64x128b|32x128b, multicast: warpx2::02_13|warpx2::01_23|warpx4, source: b6x16_p32|b4x16_p64, cta_group.',
    { effect: 'write', needs: BLACKWELL },
  ),
  tcgen05_shift: op('(ptr.tmem); cta_group.', { effect: 'write', needs: BLACKWELL }),
  tcgen05_fence: op('(); when: before_thread_sync|after_thread_sync.', { effect: 'sync', needs: BLACKWELL }),
};
