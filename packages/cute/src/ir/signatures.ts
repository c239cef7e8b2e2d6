import { TYPES, type TypeName } from '../types/dtype.ts';
import { KernelError } from './error.ts';
import type { Node, Value } from './ir.ts';

/**
 * Operands and results of every operation. A word is a type, a class of types, or several joined by `|`; `T:class`
 * names what it finds, and `T` alone is the same type again. `?` after a word: may be absent; `*`: any number, last.
 */
const PATTERNS: Readonly<Record<string, string>> = {
  const: '-> any',
  param: '-> any',
  special: '-> i32|u32|u64',
  clock: '-> u64',
  ...each('add sub mul div rem min max', 'T:number T -> T'),
  ...each('neg abs', 'T:number -> T'),
  fma: 'T:number T T -> T',
  mad: 'T:integer T T -> T',
  mulhi: 'T:integer T -> T',
  mulwide: 'T:i32|u32 T -> i64|u64',
  ...each('and or xor', 'T:bits T -> T'),
  not: 'T:bits -> T',
  ...each('shl shr', 'T:bits i32|u32 -> T'),
  bfe: 'T:integer T T -> T',
  bfi: 'T:bits T i32|u32 i32|u32 -> T',
  prmt: 'T:word T word -> T',
  lop3: 'T:word T T -> T',
  shf: 'word word i32|u32 -> u32|b32',
  popc: 'bits -> u32',
  clz: 'bits -> u32',
  brev: 'T:bits -> T',
  dp4a: 'word word T:i32|u32 -> T',
  compare: 'T:any T -> pred',
  select: 'pred T:any T -> T',
  convert: 'any any? any? any? -> any',
  bitcast: 'any -> any',
  pack: 'T:any T* -> any',
  unpack: 'any -> T:any T*',
  approx: 'T:number -> T',
  ...each('sqrt rcp', 'T:f32|f64 -> T'),
  slot: '->',
  get: '-> any',
  set: 'any ->',
  shared_address: '-> ptr.shared',
  ptr_add: 'T:ptr integer? -> T',
  ptr_cast: 'ptr -> ptr',
  ptr_bits: 'ptr|u64|u32 -> ptr|u64|u32',
  load: 'ptr u64? -> T:any T*',
  store: 'ptr any any* ->',
  atomic: 'ptr T:any T? -> T',
  reduce: 'ptr T:any T* ->',
  prefetch: 'ptr ->',
  cache_policy: '-> u64',
  if: 'pred ->',
  ...each('loop block break continue return trap barrier barrier_arrive warp_sync fence', '->'),
  barrier_reduce: 'pred -> pred|u32',
  shuffle: 'T:word i32|u32 -> T pred?',
  vote: 'pred -> pred|u32',
  match: 'bits|f32|f64 -> u32 pred?',
  warp_reduce: 'T:i32|u32|b32|f32 -> T',
  elect: '-> pred',
  active_mask: '-> u32',
  nanosleep: 'u32|i32 ->',
  print: 'any* ->',
  assert: 'pred ->',
  asm: 'any* -> any*',
  cp_async: 'ptr.shared ptr.global i32|u32? ->',
  ...each('cp_async_arrive mbarrier_init mbarrier_invalidate', 'ptr.shared ->'),
  ...each('mbarrier_try_wait', 'ptr.shared i32|u32 -> pred'),
  mbarrier_wait: 'ptr.shared i32|u32 ->',
  mbarrier_arrive: 'near ->',
  mbarrier_expect: 'near i32|u32? ->',
  bulk_load: 'near ptr.global i32|u32 near u16|u64? u64? ->',
  bulk_store: 'ptr.global ptr.shared i32|u32 u64? ->',
  bulk_copy_cluster: 'ptr.cluster ptr.shared i32|u32 ptr.cluster ->',
  bulk_prefetch: 'ptr.global i32|u32 u64? ->',
  tma_load: 'near ptr.generic near any* ->',
  tma_store: 'ptr.generic ptr.shared any* ->',
  tma_prefetch: 'ptr.generic any* ->',
  ...each('tensormap_prefetch', 'ptr.generic ->'),
  tensormap_acquire: 'ptr.global|ptr.generic ->',
  tensormap_replace: 'ptr.shared|ptr.global any? ->',
  tensormap_copy_fence: 'ptr.global ptr.shared ->',
  map_shared: 'ptr.shared i32|u32 -> ptr.cluster',
  store_async: 'ptr.cluster any any* ->',
  reduce_async: 'ptr.cluster any ptr.cluster ->',
  multimem_load_reduce: 'ptr.global -> T:any T*',
  ...each('multimem_store multimem_reduce', 'ptr.global any any* ->'),
  cluster_launch_try_cancel: 'ptr.shared ptr.shared ->',
  cluster_launch_query: 'b128 -> pred i32|u32 i32|u32 i32|u32',
  ldmatrix: 'ptr.shared -> word word*',
  stmatrix: 'ptr.shared word word* ->',
  movmatrix: 'T:word -> T',
  mma: 'any any any* -> any any*',
  wgmma: 'word|u64 word|u64 any* ->',
  ...each('wgmma_descriptor tcgen05_descriptor', 'ptr.shared -> u64'),
  descriptor_add: 'u64 i32|u32? -> u64',
  tcgen05_alloc: 'ptr.shared ->',
  ...each('tcgen05_dealloc tcgen05_shift', 'ptr.tmem ->'),
  tcgen05_load: 'ptr.tmem -> word word*',
  tcgen05_store: 'ptr.tmem word word* ->',
  tcgen05_mma: 'ptr.tmem u64|ptr.tmem u64 u32|i32|b32 pred any* ->',
  tcgen05_commit: 'near|ptr.generic u16? ->',
  tcgen05_copy: 'ptr.tmem u64 ->',
};

function each(names: string, pattern: string): Record<string, string> {
  return Object.fromEntries(names.split(' ').map((name) => [name, pattern]));
}

const CLASSES: Readonly<Record<string, (type: TypeName) => boolean>> = {
  any: () => true,
  number: (type) => 'iufv'.includes(TYPES[type].kind),
  integer: (type) => 'iu'.includes(TYPES[type].kind),
  // Half-precision pairs and floats have bits too: masks of signs and the like.
  bits: (type) => TYPES[type].kind !== 'a',
  word: (type) => TYPES[type].bits === 32,
  ptr: (type) => TYPES[type].kind === 'a',
  near: (type) => type === 'ptr.shared' || type === 'ptr.cluster',
};

interface Word {
  readonly text: string;
  readonly binds: string | undefined;
  readonly accepts: ((type: TypeName) => boolean) | undefined;
  readonly optional: boolean;
  readonly many: boolean;
}

const PARSED = new Map<string, { args: Word[]; results: Word[] }>();
for (const [op, pattern] of Object.entries(PATTERNS)) {
  const [args, results] = pattern.split('->').map((side) => side.trim().split(' ').filter(Boolean).map(parseWord));
  PARSED.set(op, { args, results });
}

function parseWord(text: string): Word {
  const match = /^(?:([A-Z]):)?([^?*]+)([?*])?$/.exec(text)!;
  const [, binds, alternatives, suffix] = match;
  const variable = /^[A-Z]$/.test(alternatives) ? alternatives : binds;
  const names = alternatives.split('|');
  const accepts = /^[A-Z]$/.test(alternatives)
    ? undefined
    : (type: TypeName) => names.some((name) => (CLASSES[name] ? CLASSES[name](type) : name === type));
  return { text: alternatives, binds: variable, accepts, optional: suffix === '?', many: suffix === '*' };
}

/** Checks number and types of a node's operands and results; an operation without a pattern has neither. */
export function checkSignature(node: Node): void {
  const pattern = PARSED.get(node.op) ?? { args: [], results: [] };
  const bound = new Map<string, TypeName>();
  match(node, 'operand', pattern.args, node.args, bound);
  match(node, 'result', pattern.results, node.results, bound);
}

function match(
  node: Node,
  what: string,
  words: readonly Word[],
  values: readonly Value[],
  bound: Map<string, TypeName>,
): void {
  const required = words.filter((word) => !word.optional && !word.many).length;
  const most = words.some((word) => word.many) ? Infinity : words.length;
  if (values.length < required || values.length > most) {
    const range =
      most === required ? `${required}` : most === Infinity ? `at least ${required}` : `${required} to ${most}`;
    throw new KernelError(`${node.op} has ${values.length} ${what}s; it takes ${range}`, node.position);
  }
  for (const [i, value] of values.entries()) {
    const word = words[Math.min(i, words.length - 1)];
    const known = word.binds === undefined ? undefined : bound.get(word.binds);
    if (known !== undefined && known !== value.type) {
      throw new KernelError(
        `${node.op}: ${what} ${i + 1} is ${value.type}, but ${known} goes before it; convert one of them`,
        node.position,
      );
    }
    if (word.accepts && !word.accepts(value.type)) {
      throw new KernelError(`${node.op}: ${what} ${i + 1} is ${value.type}; it must be ${word.text}`, node.position);
    }
    if (word.binds !== undefined) bound.set(word.binds, value.type);
  }
}
