import { op, type OpInfo } from './op-info.ts';
import { ASYNC_OPS } from './ops-async.ts';
import { MATRIX_OPS } from './ops-matrix.ts';

const SCALAR_OPS = {
  const: op('() -> T; value: number or, for 64-bit integers, decimal string (floats: a number, "nan", "inf", "-inf").'),
  param: op(
    '() -> T; index into params: a scalar, the address of a tensor (ptr.global), of a tensor map (ptr.generic).',
  ),
  special: op(
    '() -> i32 (u64 for clocks); name: tid.x|y|z, ctaid.*, nctaid.*, ntid.*, laneid, warpid, smid, cluster_ctaid.*, ' +
      'cluster_nctaid.*, cluster_ctarank, cluster_nctarank, lanemask_lt|le|gt|ge|eq (u32).',
  ),
  clock: op('() -> u64; name: clock64 or globaltimer (ns).', { effect: 'read' }),
  add: op('(T, T) -> T. Integers wrap; floats round to nearest even, never contracted into fma.'),
  sub: op('(T, T) -> T, as add.'),
  mul: op('(T, T) -> T, low half for integers.'),
  div: op('(T, T) -> T. Integers truncate towards zero; f32: IEEE, or with approx: true the fast quotient (2 ulp).'),
  rem: op('(T, T) -> T, integers; sign of the dividend.'),
  min: op('(T, T) -> T. Floats: the number if one side is NaN; nan: true propagates NaN.'),
  max: op('(T, T) -> T, as min.'),
  neg: op('(T) -> T'),
  abs: op('(T) -> T'),
  fma: op('(T, T, T) -> T: a * b + c rounded once. Floats and packed pairs.'),
  mad: op('(T, T, T) -> T: a * b + c, low half, integers.'),
  mulhi: op('(T, T) -> T: upper half of the product, 32- and 64-bit integers.'),
  mulwide: op('(T, T) -> 2T: the whole product of two 32-bit integers as i64 or u64.'),
  and: op('(T, T) -> T: bits or predicates.'),
  or: op('(T, T) -> T, as and.'),
  xor: op('(T, T) -> T, as and.'),
  not: op('(T) -> T, as and.'),
  shl: op('(T, u32|i32) -> T. Counts of the width or more give 0.'),
  shr: op('(T, u32|i32) -> T. Arithmetic for signed types.'),
  bfe: op('(T, T: start, T: length) -> T: bit field, sign-extended for signed types.'),
  bfi: op('(T: field, T: base, i32: start, i32: length) -> T'),
  prmt: op('(b32-like, b32-like, selector) -> the same type; PTX prmt.b32 default mode.'),
  lop3: op('(b32-like x3) -> the same type; lut: 0..255.'),
  shf: op('(low, high, count) -> u32; direction: l|r, mode: wrap|clamp.'),
  popc: op('(T) -> u32'),
  clz: op('(T) -> u32'),
  brev: op('(T) -> T'),
  dp4a: op('(b32 of four i8 or u8, the same, i32|u32) -> i32|u32; signs: ss|su|us|uu.'),
  compare: op(
    '(T, T) -> pred; test: eq|ne|lt|le|gt|ge, for floats also equ|neu|ltu|leu|gtu|geu (true if unordered), num|nan.',
  ),
  select: op('(pred, T, T) -> T: the first where the predicate holds.'),
  convert: op(
    '(S) -> T; round: rn|rz|rm|rp (to floats: default rn; float to integer: default rz, saturating as PTX does), ' +
      'saturate: true (satfinite for 8-bit floats; they always saturate). Packed forms: (f32 low, f32 high) -> f16x2|bf16x2|' +
      'e4m3x2|e5m2x2, (e4m3x2|e5m2x2) -> f16x2. relu: true clamps below at 0.',
  ),
  bitcast: op('(S) -> T of the same width.'),
  pack: op('(elements, low first) -> packed or wider type: two 16-bit to 32, two 32 to 64, four 8 to 32...'),
  unpack: op('(packed) -> elements, low first.'),
  approx: op(
    '(f32) -> f32; function: ex2|lg2|rsqrt|rcp|sqrt|tanh|sin|cos; PTX .approx(.ftz). ex2 and tanh also f16x2, bf16x2.',
  ),
  sqrt: op('(f32|f64) -> T: IEEE, round to nearest.'),
  rcp: op('(f32|f64) -> T: IEEE, round to nearest.'),
  slot: op('() -> (); slots: the one declared.', { effect: 'write' }),
  get: op('() -> T; slots: the one read.', { effect: 'read' }),
  set: op('(T) -> (); slots: the one written.', { effect: 'write' }),
} satisfies Record<string, OpInfo>;

const MEMORY_OPS = {
  shared_address: op('() -> ptr.shared; id of the allocation.'),
  ptr_add: op(
    '(ptr, integer?) -> ptr: address + integer * scale + bytes, the product with 64 bits for 64-bit addresses. ' +
      'scale (bytes, default 1), bytes (default 0).',
  ),
  ptr_cast: op('(ptr) -> ptr of another space (cvta; shared to cluster: the same window).'),
  ptr_bits: op('(ptr) -> u64|u32, or back: the address as an integer.'),
  load: op(
    '(ptr[, u64 policy]) -> count values of type T; count, align (bytes known to divide the address), order: weak|relaxed|acquire|volatile|nc, ' +
      'scope: cta|cluster|gpu|sys, l1: evict_first|evict_last|no_allocate|..., l2: the same, cache: cs|cg|... (operator, instead of l1), prefetch: 64|128|256 (bytes), ' +
      'bytes: immediate offset. Up to 16 bytes (32 on sm_100).',
    { effect: 'read' },
  ),
  store: op('(ptr, count values[, u64 policy]) -> (); attributes as load with order: weak|relaxed|release|volatile.', {
    effect: 'write',
  }),
  atomic: op(
    '(ptr, T[, T: compare goes first]) -> T: old; function: add|min|max|and|or|xor|exch|cas|inc|dec, order, scope.',
    { effect: 'sync' },
  ),
  reduce: op('(ptr, values) -> (): atomic without a result; function, count (vectors on sm_90), order, scope.', {
    effect: 'sync',
  }),
  prefetch: op('(ptr) -> (); level: l1|l2.', { effect: 'debug' }),
  cache_policy: op('() -> u64; l2: evict_last|evict_first|evict_unchanged|evict_normal, fraction.'),
} satisfies Record<string, OpInfo>;

const CONTROL_OPS = {
  if: op('(pred) -> ()', { effect: 'control', regions: ['then', 'else'] }),
  loop: op(
    'label; runs body, then latch, then body again, until a break. continue goes to the latch. unroll: 0 (ptxas decides), 1 (never), n.',
    { effect: 'control', regions: ['body', 'latch'] },
  ),
  block: op('label; runs its body once; a break leaves it.', { effect: 'control', regions: ['body'] }),
  break: op('label of a loop or block around it.', { effect: 'control' }),
  continue: op('label of a loop around it.', { effect: 'control' }),
  return: op('Ends the thread.', { effect: 'control' }),
  trap: op('Ends the grid with an error.', { effect: 'control' }),
} satisfies Record<string, OpInfo>;

const SYNC_OPS = {
  barrier: op('(); id 0..15, count: threads (default: all of the CTA), aligned (default true).', {
    effect: 'sync',
    convergence: 'warp',
  }),
  barrier_arrive: op('(); id, count.', { effect: 'sync', convergence: 'warp' }),
  barrier_reduce: op('(pred) -> pred (and|or) or u32 (popc); function, id, count.', {
    effect: 'sync',
    convergence: 'warp',
  }),
  warp_sync: op('(); mask.', { effect: 'sync', convergence: 'warp' }),
  shuffle: op('(T of 32 bits, i32) -> T[, pred: in range]; mode: bfly|idx|up|down, width (default 32), mask.', {
    convergence: 'warp',
    effect: 'sync',
  }),
  vote: op('(pred) -> pred (all|any|uni) or u32 (ballot); function, mask.', { convergence: 'warp', effect: 'sync' }),
  match: op('(T) -> u32[, pred]; function: any|all.', { convergence: 'warp', effect: 'sync' }),
  warp_reduce: op('(T) -> T: redux.sync; function add|min|max|and|or|xor on i32/u32, min|max on f32 (sm_100a).', {
    convergence: 'warp',
    effect: 'sync',
  }),
  elect: op('() -> pred: true in one lane of the warp.', {
    convergence: 'warp',
    effect: 'sync',
    needs: () => ({ isa: 8, target: 'sm_90' }),
  }),
  active_mask: op('() -> u32', { effect: 'sync' }),
  fence: op('(); order: acq_rel|sc, scope: cta|cluster|gpu|sys.', { effect: 'sync' }),
  nanosleep: op('(u32); time in ns, a hint.', { effect: 'sync' }),
} satisfies Record<string, OpInfo>;

const DEBUG_OPS = {
  print: op('(values); format: text with one {} for each value. Goes to the ring buffer of the host.', {
    effect: 'debug',
  }),
  assert: op('(pred); message. Reports the position and traps where the predicate is false.', { effect: 'debug' }),
  asm: op(
    '(values) -> values; template with $0.. results first then operands, effect: pure|read|write|sync, isa, target.',
    { effect: 'sync' },
  ),
} satisfies Record<string, OpInfo>;

export const OPS: Readonly<Record<string, OpInfo>> = Object.freeze({
  ...SCALAR_OPS,
  ...MEMORY_OPS,
  ...CONTROL_OPS,
  ...SYNC_OPS,
  ...DEBUG_OPS,
  ...ASYNC_OPS,
  ...MATRIX_OPS,
});
