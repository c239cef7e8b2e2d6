import { choiceOf, numberOf, textOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { ATOMIC_EMITTERS } from './atomic.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { scopeOf, spaceOf } from './space.ts';

const SHARED_MEMORY = 'shared_memory';
const L1_POLICIES = ['evict_normal', 'evict_unchanged', 'evict_first', 'evict_last', 'no_allocate'] as const;
/** Cache operators. Source: PTX ISA 9.0, "Cache operators"; `wb` and `ca` are the defaults. */
const CACHE_OPERATORS = {
  load: ['ca', 'cg', 'cs', 'lu', 'cv'],
  nc: ['ca', 'cg', 'cs'],
  store: ['wb', 'cg', 'cs', 'wt'],
};
const L2_POLICIES = ['evict_normal', 'evict_unchanged', 'evict_first', 'evict_last'] as const;

/** One access of the several that a load or a store may need: bytes from its start, and how many. */
interface Chunk {
  readonly offset: number;
  readonly bytes: number;
}

/** Splits an access into the widest that are aligned, at most `widest` bytes each. */
function chunksOf(bytes: number, align: number, widest: number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let offset = 0; offset < bytes;) {
    let size = widest;
    while (size > bytes - offset || align % size !== 0 || offset % size !== 0) size /= 2;
    chunks.push({ offset, bytes: size });
    offset += size;
  }
  return chunks;
}

/** Everything of a load or store but its registers. */
interface Access {
  readonly chunks: Chunk[];
  readonly elementBytes: number;
  /** Between the instruction's name and its vector: order, scope, space, hints. */
  readonly modifiers: string;
  readonly policy: string;
  address(chunk: Chunk): string;
}

function accessOf(e: Emitter, node: Node, count: number, type: TypeName, policy: Value | undefined): Access {
  const [base] = node.args;
  const elementBytes = TYPES[type].bits / 8;
  if (elementBytes < 1) throw e.error('predicates are not stored: select a number');
  const align = numberOf(node, 'align', elementBytes);
  if ((align & (align - 1)) !== 0 || align % elementBytes !== 0) {
    throw e.error(`align ${align} must be a power of two that ${type} (${elementBytes} bytes) divides`);
  }
  const wide = elementBytes < 16 && base.type === 'ptr.global' && e.arch.capability >= 100 && e.arch.capability < 120;
  const chunks = chunksOf(count * elementBytes, align, wide ? 32 : 16);
  if (chunks.some((chunk) => chunk.bytes === 32)) e.need(8.8, 'sm_100', 'a 32-byte access');
  const register = e.register(base);
  const offset = numberOf(node, 'bytes', 0);
  const hint = policy ? e.register(policy) : policyOf(e, node);
  return {
    chunks,
    elementBytes,
    modifiers: modifiersOf(e, node, base, hint !== undefined),
    policy: hint === undefined ? '' : `, ${hint}`,
    address: (chunk) => {
      const bytes = offset + chunk.offset;
      return `[${register}${bytes === 0 ? '' : `+${bytes}`}]`;
    },
  };
}

/** L2 eviction as a policy register: the form that every architecture from sm_80 has. */
function policyOf(e: Emitter, node: Node): string | undefined {
  if (node.attributes.l2 === undefined) return undefined;
  const l2 = choiceOf(node, 'l2', L2_POLICIES);
  e.need(7.4);
  return e.once(`l2 ${l2}`, 'd', (d) => `createpolicy.fractional.L2::${l2}.b64 ${d}, 0f3f800000`);
}

function modifiersOf(e: Emitter, node: Node, base: Value, hinted: boolean): string {
  const space = spaceOf(e, base);
  const load = node.op === 'load';
  const order = choiceOf(
    node,
    'order',
    load ? ['weak', 'relaxed', 'acquire', 'volatile', 'nc'] : ['weak', 'relaxed', 'release', 'volatile'],
    'weak',
  );
  let text = '';
  if (order === 'volatile') text += '.volatile';
  else if (order !== 'weak' && order !== 'nc') text += `.${order}${scopeOf(e, node)}`;
  text += space;
  if (node.attributes.cache !== undefined) {
    if ((order !== 'weak' && order !== 'nc') || node.attributes.l1 !== undefined) {
      throw e.error(`${node.op} has a cache operator: it is weak and says nothing of l1`);
    }
    if (space === '.shared' || space === '.shared::cluster') throw e.error('shared memory is not cached');
    text += `.${choiceOf(node, 'cache', CACHE_OPERATORS[order === 'nc' ? 'nc' : (node.op as 'load' | 'store')])}`;
  }
  if (order === 'nc') {
    if (space !== '.global') throw e.error('only global memory is read through the non-coherent path');
    text += '.nc';
  }
  if (node.attributes.l1 !== undefined) {
    text += `.L1::${choiceOf(node, 'l1', L1_POLICIES)}`;
    e.need(7.4);
  }
  if (hinted) {
    text += '.L2::cache_hint';
    e.need(7.4);
  }
  if (load && node.attributes.prefetch !== undefined) {
    text += `.L2::${numberOf(node, 'prefetch')}B`;
    e.need(7.4);
  }
  return text;
}

/** How a chunk travels: `.v4.b32` and the like, with the bits of one register. */
function shapeOf(e: Emitter, chunk: Chunk, elementBytes: number): { suffix: string; registers: number; bits: number } {
  if (elementBytes === 16) {
    e.need(8.3);
    return { suffix: '.b128', registers: 1, bits: 128 };
  }
  const bytes = Math.min(chunk.bytes, elementBytes === 8 ? 8 : 4);
  const registers = chunk.bytes / bytes;
  return { suffix: `${registers > 1 ? `.v${registers}` : ''}.b${8 * bytes}`, registers, bits: 8 * bytes };
}

function braces(registers: readonly string[]): string {
  return registers.length === 1 ? registers[0] : `{${registers.join(', ')}}`;
}

const KINDS = { 8: 'h', 16: 'h', 32: 'r', 64: 'd', 128: 'q' } as const;

function load(e: Emitter, node: Node): void {
  const access = accessOf(e, node, node.results.length, node.results[0].type, node.args[1]);
  for (const chunk of access.chunks) {
    const { suffix, registers, bits } = shapeOf(e, chunk, access.elementBytes);
    const words = Array.from({ length: registers }, () => e.temporary(KINDS[bits as 32]));
    e.line(`ld${access.modifiers}${suffix} ${braces(words)}, ${access.address(chunk)}${access.policy}`);
    const perWord = bits / 8 / access.elementBytes;
    const first = chunk.offset / access.elementBytes;
    for (const [i, word] of words.entries()) {
      e.split(node.results.slice(first + i * perWord, first + (i + 1) * perWord), word, bits);
    }
  }
}

function store(e: Emitter, node: Node): void {
  const count = numberOf(node, 'count', 1);
  const values = node.args.slice(1, 1 + count);
  if (values.length !== count) throw e.error(`store of ${count} values has ${values.length}`);
  const access = accessOf(e, node, count, values[0].type, node.args[1 + count]);
  for (const chunk of access.chunks) {
    const { suffix, registers, bits } = shapeOf(e, chunk, access.elementBytes);
    const perWord = bits / 8 / access.elementBytes;
    const first = chunk.offset / access.elementBytes;
    const words = Array.from({ length: registers }, (_, i) =>
      e.join(values.slice(first + i * perWord, first + (i + 1) * perWord), bits),
    );
    e.line(`st${access.modifiers}${suffix} ${access.address(chunk)}, ${braces(words)}${access.policy}`);
  }
}

function sharedAddress(e: Emitter, node: Node): void {
  const id = numberOf(node, 'id');
  const allocation = e.kernel.shared.find((candidate) => candidate.id === id);
  if (!allocation) throw e.error(`there is no shared memory ${id}`);
  if (allocation.offset === undefined)
    throw e.error(`shared memory ${allocation.name} has no place: run the allocation pass`);
  e.globals.add(`.extern .shared .align 1024 .b8 ${SHARED_MEMORY}[];`);
  const place = allocation.offset === 0 ? SHARED_MEMORY : `${SHARED_MEMORY}+${allocation.offset}`;
  e.line(`mov.b32 ${e.define(node.results[0])}, ${place}`);
}

/** address + integer * scale + bytes, the product with as many bits as the address. */
function addressPlus(e: Emitter, node: Node): void {
  const [base, index] = node.args;
  const [result] = node.results;
  const wide = TYPES[base.type].bits === 64;
  const scale = numberOf(node, 'scale', 1);
  const bytes = numberOf(node, 'bytes', 0);
  let sum = e.register(base);
  if (index) {
    const next = bytes === 0 ? e.define(result) : e.temporary(wide ? 'd' : 'r');
    addScaled(e, next, sum, index, scale, wide);
    sum = next;
  }
  if (bytes !== 0) e.line(`add.${wide ? 's64' : 's32'} ${e.define(result)}, ${sum}, ${bytes}`);
  else if (!index) e.alias(result, sum);
}

function addScaled(e: Emitter, to: string, base: string, index: Value, scale: number, wide: boolean): void {
  const { kind, bits } = TYPES[index.type];
  if (kind !== 'i' && kind !== 'u') throw e.error(`an address moves by whole numbers, not ${index.type}`);
  const sign = kind === 'i' ? 's' : 'u';
  const fits = Number.isInteger(scale) && scale >= -0x80000000 && scale <= 0x7fffffff;
  if (wide && bits === 32 && fits && (scale >= 0 || kind === 'i')) {
    return e.line(`mad.wide.${sign}32 ${to}, ${e.use(index)}, ${scale}, ${base}`);
  }
  const width = wide ? 64 : 32;
  let operand = e.use(index);
  if (bits !== width && operand.startsWith('%')) {
    operand = e.temporary(wide ? 'd' : 'r');
    e.line(`cvt.${bits > width ? 'u' : sign}${width}.${sign}${bits} ${operand}, ${e.register(index)}`);
  }
  if (scale === 1) e.line(`add.s${width} ${to}, ${base}, ${operand}`);
  else e.line(`mad.lo.s${width} ${to}, ${operand}, ${scale}, ${base}`);
}

/** The window of a space in the generic addresses. */
function addressCast(e: Emitter, node: Node): void {
  const [source] = node.args;
  const [result] = node.results;
  const [from, to] = [source.type, result.type];
  const shared = from === 'ptr.shared' || from === 'ptr.cluster';
  if (from === to || (shared && (to === 'ptr.shared' || to === 'ptr.cluster')))
    return e.alias(result, e.register(source));
  if (from === 'ptr.generic' && to === 'ptr.global') {
    return e.line(`cvta.to.global.u64 ${e.define(result)}, ${e.register(source)}`);
  }
  if (from === 'ptr.global' && to === 'ptr.generic') {
    return e.line(`cvta.global.u64 ${e.define(result)}, ${e.register(source)}`);
  }
  if (from === 'ptr.generic' && (to === 'ptr.shared' || to === 'ptr.cluster')) {
    const wide = e.temporary('d');
    e.line(`cvta.to${spaceOf(e, result)}.u64 ${wide}, ${e.register(source)}`);
    return e.line(`cvt.u32.u64 ${e.define(result)}, ${wide}`);
  }
  if (shared && to === 'ptr.generic') {
    const wide = e.temporary('d');
    e.line(`cvt.u64.u32 ${wide}, ${e.register(source)}`);
    return e.line(`cvta${spaceOf(e, source)}.u64 ${e.define(result)}, ${wide}`);
  }
  throw e.error(`there is no way from ${from} to ${to}`);
}

export const MEMORY_EMITTERS: Readonly<Record<string, EmitNode>> = {
  shared_address: sharedAddress,
  ptr_add: addressPlus,
  ptr_cast: addressCast,
  ptr_bits: (e, node) => {
    if (TYPES[node.args[0].type].bits !== TYPES[node.results[0].type].bits) throw e.error('ptr_bits keeps the width');
    e.alias(node.results[0], e.register(node.args[0]));
  },
  load,
  store,
  prefetch: (e, node) => {
    const space = spaceOf(e, node.args[0]);
    if (space !== '' && space !== '.global') throw e.error('shared memory is not prefetched');
    e.line(`prefetch${space}.${choiceOf(node, 'level', ['l1', 'l2']).toUpperCase()} [${e.register(node.args[0])}]`);
  },
  cache_policy: (e, node) => {
    e.need(7.4);
    const fraction = numberOf(node, 'fraction', 1);
    if (!(fraction > 0 && fraction <= 1)) throw e.error(`fraction ${fraction} must lie in (0, 1]`);
    const text = new DataView(new ArrayBuffer(4));
    text.setFloat32(0, fraction);
    const bits = text.getUint32(0).toString(16).padStart(8, '0');
    e.line(`createpolicy.fractional.L2::${textOf(node, 'l2')}.b64 ${e.define(node.results[0])}, 0f${bits}`);
  },
  ...ATOMIC_EMITTERS,
};
