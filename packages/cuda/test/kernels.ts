import { layoutParameters, type Program } from '../src/index.ts';

/** Kernels in hand-written PTX, for tests. */

const HEAD = '.version 8.0\n.target sm_90a\n.address_size 64\n';

/** out[i] = x[i] + y[i] over n elements of float32, a thread an element. */
export const VECTOR_ADD: Program = {
  name: 'vector_add',
  ...layoutParameters([
    { name: 'x', kind: 'pointer', align: 4 },
    { name: 'y', kind: 'pointer', align: 4 },
    { name: 'out', kind: 'pointer', align: 4 },
    { name: 'n', kind: 'u32' },
  ]),
  sharedBytes: 0,
  threads: [256, 1, 1],
  ptx: `${HEAD}
.file 1 "kernels/vector-add.ts"
.visible .entry vector_add(
  .param .u64 x, .param .u64 y, .param .u64 out, .param .u32 n)
{
  .reg .pred %p;
  .reg .b32 %i, %n, %t;
  .reg .b64 %x, %y, %o, %d;
  .reg .f32 %a, %b;
  .loc 1 10 3
  mov.u32 %i, %ctaid.x;
  mov.u32 %t, %tid.x;
  mad.lo.u32 %i, %i, 256, %t;
  ld.param.u32 %n, [n];
  setp.ge.u32 %p, %i, %n;
  @%p bra DONE;
  ld.param.u64 %x, [x];
  ld.param.u64 %y, [y];
  ld.param.u64 %o, [out];
  mul.wide.u32 %d, %i, 4;
  add.u64 %x, %x, %d;
  add.u64 %y, %y, %d;
  add.u64 %o, %o, %d;
  .loc 1 11 7
  ld.global.f32 %a, [%x];
  ld.global.f32 %b, [%y];
  .loc 1 12 7
  add.rn.f32 %a, %a, %b;
  st.global.f32 [%o], %a;
DONE:
  ret;
}
`,
};

/** Adds 1 to a word: the smallest launch there is. */
export const TICK: Program = {
  name: 'tick',
  ...layoutParameters([
    { name: 'x', kind: 'pointer' },
    { name: 'by', kind: 'u32' },
  ]),
  sharedBytes: 0,
  threads: [1, 1, 1],
  ptx: `${HEAD}
.visible .entry tick(.param .u64 x, .param .u32 by)
{
  .reg .b64 %x;
  .reg .b32 %v, %by;
  ld.param.u64 %x, [x];
  ld.param.u32 %by, [by];
  ld.global.u32 %v, [%x];
  add.u32 %v, %v, %by;
  st.global.u32 [%x], %v;
  ret;
}
`,
};

/** Clusters of 4 CTAs: each writes its rank, and reads by way of distributed shared memory what the next one stored. */
export const CLUSTER: Program = {
  name: 'cluster_ring',
  ...layoutParameters([{ name: 'out', kind: 'pointer' }]),
  sharedBytes: 0,
  threads: [32, 1, 1],
  cluster: [4, 1, 1],
  ptx: `${HEAD}
.visible .entry cluster_ring(.param .u64 out)
{
  .shared .align 4 .b32 mine;
  .reg .pred %p;
  .reg .b32 %r, %next, %a, %v, %c, %t;
  .reg .b64 %o, %d;
  mov.u32 %t, %tid.x;
  mov.u32 %r, %cluster_ctarank;
  mov.u32 %c, %ctaid.x;
  mov.u32 %a, mine;
  setp.ne.u32 %p, %t, 0;
  mad.lo.u32 %v, %c, 10, 7;
  @!%p st.shared.u32 [%a], %v;
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  add.u32 %next, %r, 1;
  and.b32 %next, %next, 3;
  mapa.shared::cluster.u32 %a, %a, %next;
  ld.shared::cluster.u32 %v, [%a];
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  ld.param.u64 %o, [out];
  mul.wide.u32 %d, %c, 4;
  add.u64 %o, %o, %d;
  @!%p st.global.u32 [%o], %v;
  ret;
}
`,
};

/** The first of a pair with programmatic launch: lets the second start, then works a while, then writes. */
export const PDL_FIRST: Program = {
  name: 'pdl_first',
  ...layoutParameters([{ name: 'x', kind: 'pointer' }]),
  sharedBytes: 0,
  threads: [32, 1, 1],
  ptx: `${HEAD}
.visible .entry pdl_first(.param .u64 x)
{
  .reg .b64 %x;
  .reg .b32 %v, %i;
  .reg .pred %p;
  griddepcontrol.launch_dependents;
  ld.param.u64 %x, [x];
  mov.u32 %i, 0;
WAIT:
  nanosleep.u32 1000;
  add.u32 %i, %i, 1;
  setp.lt.u32 %p, %i, 100;
  @%p bra WAIT;
  mov.u32 %v, 41;
  st.global.u32 [%x], %v;
  ret;
}
`,
};

/** The second: waits for the first's writes to be seen, then adds 1. */
export const PDL_SECOND: Program = {
  name: 'pdl_second',
  ...layoutParameters([
    { name: 'x', kind: 'pointer' },
    { name: 'out', kind: 'pointer' },
  ]),
  sharedBytes: 0,
  threads: [32, 1, 1],
  overlapsPrevious: true,
  ptx: `${HEAD}
.visible .entry pdl_second(.param .u64 x, .param .u64 out)
{
  .reg .b64 %x, %o;
  .reg .b32 %v;
  ld.param.u64 %x, [x];
  ld.param.u64 %o, [out];
  griddepcontrol.wait;
  ld.global.u32 %v, [%x];
  add.u32 %v, %v, 1;
  st.global.u32 [%o], %v;
  ret;
}
`,
};

/** Bytes of a tile of the tensor-map kernel: 8 rows of 64 float16. */
export const TILE = { rows: 8, columns: 64 } as const;

/** Loads the tile at (column, row) with the tensor copy engine and stores it packed. */
export const TENSOR_LOAD: Program = {
  name: 'tensor_load',
  ...layoutParameters([
    { name: 'map', kind: 'tensormap' },
    { name: 'out', kind: 'pointer' },
    { name: 'column', kind: 'i32' },
    { name: 'row', kind: 'i32' },
  ]),
  sharedBytes: 1024 + 128 + 16,
  threads: [32, 1, 1],
  ptx: `${HEAD}
.extern .shared .align 128 .b8 dynamic[];
.visible .entry tensor_load(.param .align 64 .b8 map[128], .param .u64 out, .param .s32 column, .param .s32 row)
{
  .reg .pred %p, %done;
  .reg .b32 %t, %tile, %bar, %c, %r, %v, %at, %a;
  .reg .b64 %map, %o, %d;
  mov.u32 %t, %tid.x;
  mov.u32 %tile, dynamic;
  add.u32 %tile, %tile, 127;
  and.b32 %tile, %tile, 0xffffff80;
  add.u32 %bar, %tile, 1024;
  setp.ne.u32 %p, %t, 0;
  @%p bra READY;
  mbarrier.init.shared::cta.b64 [%bar], 1;
  fence.mbarrier_init.release.cluster;
READY:
  bar.sync 0;
  @%p bra LOAD;
  mov.b64 %map, map;
  cvta.param.u64 %map, %map;
  ld.param.s32 %c, [column];
  ld.param.s32 %r, [row];
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 1024;
  cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%tile], [%map, {%c, %r}], [%bar];
LOAD:
  mbarrier.try_wait.parity.shared::cta.b64 %done, [%bar], 0;
  @!%done bra LOAD;
  ld.param.u64 %o, [out];
  shl.b32 %at, %t, 2;
COPY:
  add.u32 %a, %tile, %at;
  ld.shared.u32 %v, [%a];
  cvt.u64.u32 %d, %at;
  add.u64 %d, %o, %d;
  st.global.u32 [%d], %v;
  add.u32 %at, %at, 128;
  setp.lt.u32 %p, %at, 1024;
  @%p bra COPY;
  ret;
}
`,
};

/** Writes far outside of any memory. */
export const ILLEGAL: Program = {
  name: 'illegal',
  ...layoutParameters([]),
  sharedBytes: 0,
  threads: [1, 1, 1],
  ptx: `${HEAD}
.visible .entry illegal()
{
  .reg .b64 %a;
  .reg .b32 %v;
  mov.u64 %a, 16;
  mov.u32 %v, 1;
  st.global.u32 [%a], %v;
  ret;
}
`,
};

export const ALL: readonly Program[] = [VECTOR_ADD, TICK, CLUSTER, PDL_FIRST, PDL_SECOND, TENSOR_LOAD, ILLEGAL];
