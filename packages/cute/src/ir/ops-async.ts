import type { Attributes } from './ir.ts';
import { op, type Needs, type OpInfo } from './op-info.ts';

/** What came with the first version that knows sm_90. */
const EARLY_HOPPER = (): Needs => ({ isa: 7.8, target: 'sm_90' });
const HOPPER = (): Needs => ({ isa: 8, target: 'sm_90' });
const ASYNC_STORES = (): Needs => ({ isa: 8.1, target: 'sm_90' });
/** Gathers, scatters and CTA pairs are Blackwell's. */
const TENSOR = ({ mode, cta_group }: Attributes): Needs =>
  mode === 'gather4' || mode === 'scatter4' || (cta_group ?? 0) !== 0
    ? { isa: 8.6, target: 'sm_100a' }
    : { isa: 8, target: 'sm_90' };

/** Copies that run beside the threads, the barriers that report their end, clusters and dependent grids. */
export const ASYNC_OPS: Readonly<Record<string, OpInfo>> = {
  cp_async: op('(ptr.shared, ptr.global[, i32: bytes read, rest zero]); bytes: 4|8|16, cache: ca|cg.', {
    effect: 'write',
  }),
  cp_async_commit: op('()', { effect: 'sync' }),
  cp_async_wait: op('(); groups: that may still run; all: true waits for everything.', { effect: 'sync' }),
  cp_async_arrive: op('(ptr.shared mbarrier); noinc: true.', { effect: 'sync' }),

  mbarrier_init: op('(ptr.shared); count.', { effect: 'sync' }),
  mbarrier_invalidate: op('(ptr.shared)', { effect: 'sync' }),
  mbarrier_arrive: op('(ptr.shared|ptr.cluster) -> () ; count (default 1), order release, scope cta|cluster.', {
    effect: 'sync',
  }),
  mbarrier_expect: op(
    '(ptr.shared|ptr.cluster[, i32 bytes]): arrives once and expects bytes; bytes: number if known; arrive: false only expects.',
    {
      effect: 'sync',
      needs: HOPPER,
    },
  ),
  mbarrier_try_wait: op(
    '(ptr.shared, u32|i32 parity) -> pred: the phase of that parity has completed; scope, hint (ns).',
    {
      effect: 'sync',
      needs: HOPPER,
    },
  ),
  mbarrier_wait: op('(ptr.shared, u32|i32 parity): spins on try_wait.', { effect: 'sync', needs: HOPPER }),
  mbarrier_fence_init: op('(): makes initialised barriers visible to the cluster and the async proxy.', {
    effect: 'sync',
    needs: HOPPER,
  }),

  bulk_load: op(
    '(ptr.shared|ptr.cluster, ptr.global, i32 bytes, ptr mbarrier[, u16 multicast mask][, u64 policy]); multicast, policy: true where the operand is there.',
    {
      effect: 'write',
      needs: HOPPER,
    },
  ),
  bulk_store: op(
    '(ptr.global, ptr.shared, i32 bytes[, policy]): bulk group. reduce: add|min|max|... and type for cp.reduce.',
    { effect: 'write', needs: HOPPER },
  ),
  bulk_copy_cluster: op('(ptr.cluster, ptr.shared, i32 bytes, ptr.cluster mbarrier): shared memory to another CTA.', {
    effect: 'write',
    needs: HOPPER,
  }),
  bulk_prefetch: op('(ptr.global, i32 bytes): into L2; nothing before sm_90.', { effect: 'debug' }),
  bulk_commit: op('()', { effect: 'sync', needs: HOPPER }),
  bulk_wait: op('(); groups; read: true waits only until sources were read.', { effect: 'sync', needs: HOPPER }),
  tma_load: op(
    '(ptr.shared|ptr.cluster, ptr.generic map, ptr mbarrier, i32 coordinates innermost first[, im2col i32 offsets][, u16 mask][, u64 policy]); ' +
      'rank 1..5, mode: tile|im2col|gather4 (rank 2, five coordinates: column, four rows), multicast, policy, cta_group: 0|1|2.',
    { effect: 'write', needs: TENSOR },
  ),
  tma_store: op(
    '(ptr.generic map, ptr.shared, i32 coordinates[, policy]); rank, mode: tile|im2col|scatter4; reduce: add|min|max|inc|dec|and|or|xor.',
    { effect: 'write', needs: TENSOR },
  ),
  tma_prefetch: op('(ptr.generic map, i32 coordinates[, im2col offsets][, policy]); rank, mode: into L2.', {
    effect: 'debug',
    needs: TENSOR,
  }),
  tensormap_prefetch: op('(ptr.generic map)', { effect: 'debug', needs: HOPPER }),
  tensormap_replace: op(
    '(ptr.shared map, value); field: global_address|rank|box_dim|global_dim|global_stride|element_stride|..., index.',
    {
      effect: 'write',
      needs: () => ({ isa: 8.3, target: 'sm_90a+' }),
    },
  ),
  tensormap_copy_fence: op('(ptr.global map, ptr.shared map): copies and releases to the tensormap proxy.', {
    effect: 'sync',
    convergence: 'warp',
    needs: () => ({ isa: 8.3, target: 'sm_90' }),
  }),
  tensormap_acquire: op('(ptr.global map)', { effect: 'sync', needs: () => ({ isa: 8.3, target: 'sm_90' }) }),

  fence_proxy_async: op('(); space: shared|global|all.', { effect: 'sync', needs: HOPPER }),

  cluster_arrive: op('(); order: release|relaxed.', { effect: 'sync', convergence: 'warp', needs: HOPPER }),
  cluster_wait: op('(); order acquire.', { effect: 'sync', convergence: 'warp', needs: HOPPER }),
  map_shared: op('(ptr.shared, i32 rank) -> ptr.cluster: the same place in another CTA of the cluster.', {
    needs: EARLY_HOPPER,
  }),
  store_async: op('(ptr.cluster, values, ptr.cluster mbarrier); 1, 2 or 4 values of 32 bits, 1 or 2 of 64.', {
    effect: 'write',
    needs: ASYNC_STORES,
  }),
  reduce_async: op('(ptr.cluster, T, ptr.cluster mbarrier); function.', { effect: 'write', needs: ASYNC_STORES }),

  set_max_registers: op('(); count: multiple of 8 from 24 to 256; direction: inc|dec.', {
    effect: 'sync',
    convergence: 'warpgroup',
    needs: () => ({ isa: 8, target: 'sm_90a+' }),
  }),
  // Before sm_90 grids of a stream never overlap: there is nothing to wait for, and nothing is emitted.
  grid_dependency_wait: op('(): until the grids before have ended and their writes are visible.', { effect: 'sync' }),
  grid_launch_dependents: op('(): the next grid may start.', { effect: 'sync' }),
  multimem_load_reduce: op(
    '(ptr.global) -> values; function: add|min|max|and|or|xor, type (16-bit pairs add up in f32 unless f32_sum: false), order, scope.',
    {
      effect: 'read',
      needs: ({ function: name, type, f32_sum }) => ({
        isa: name === 'add' && (type === 'f16x2' || type === 'bf16x2') && f32_sum !== false ? 8.2 : 8.1,
        target: 'sm_90',
      }),
    },
  ),
  multimem_store: op('(ptr.global, values); type, order, scope.', {
    effect: 'write',
    needs: () => ({ isa: 8.1, target: 'sm_90' }),
  }),
  multimem_reduce: op('(ptr.global, values); function, type, order, scope.', {
    effect: 'write',
    needs: () => ({ isa: 8.1, target: 'sm_90' }),
  }),
  cluster_launch_try_cancel: op('(ptr.shared result 16 B, ptr.shared mbarrier); multicast.', {
    effect: 'write',
    needs: ({ multicast }) => ({ isa: 8.6, target: multicast ? 'sm_100a' : 'sm_100' }),
  }),
  cluster_launch_query: op('(b128) -> pred cancelled, i32 x, i32 y, i32 z of the first CTA.', {
    needs: () => ({ isa: 8.6, target: 'sm_100' }),
  }),
};
