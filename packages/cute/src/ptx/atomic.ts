import { choiceOf, numberOf } from '../ir/attributes.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { scopeOf, spaceOf } from './space.ts';

const FUNCTIONS = ['add', 'min', 'max', 'and', 'or', 'xor', 'exch', 'cas', 'inc', 'dec'] as const;

/** The type that an atomic spells for a function and an element; it differs from arithmetic's. */
function typeOf(e: Emitter, name: string, type: TypeName): string {
  const { kind, bits } = TYPES[type];
  if (name === 'exch' || name === 'cas' || name === 'and' || name === 'or' || name === 'xor') {
    return `b${bits}`;
  }
  if (name === 'inc' || name === 'dec') return 'u32';
  if (kind === 'i' || kind === 'u') {
    if (bits < 32) throw e.error(`there is no atomic ${name} of ${type}`);
    // Sums wrap, so that both signs are one; 64-bit sums exist as unsigned only.
    if (name === 'add') return bits === 64 ? 'u64' : kind === 'i' ? 's32' : 'u32';
    return `${kind === 'i' ? 's' : 'u'}${bits}`;
  }
  if (type === 'bf16' || type === 'bf16x2') e.need(7.8, 'sm_90', `an atomic ${name} of ${type}`);
  return type;
}

/** Half-precision sums say that they keep subnormals. */
function nameOf(name: string, type: TypeName): string {
  return /^b?f16/.test(type) ? `${name}.noftz` : name;
}

function atomic(e: Emitter, node: Node): void {
  const [address, ...values] = node.args;
  const name = choiceOf(node, 'function', FUNCTIONS);
  const type = values[0].type;
  const order = choiceOf(node, 'order', ['relaxed', 'acquire', 'release', 'acq_rel'], 'relaxed');
  const form = `atom.${order}${scopeOf(e, node)}${spaceOf(e, address)}.${nameOf(name, type)}.${typeOf(e, name, type)}`;
  if (TYPES[type].bits === 128) e.need(node.attributes.scope === 'sys' ? 8.4 : 8.3, 'sm_90', 'a 128-bit atomic');
  const operands = values.map((value) => (TYPES[type].bits === 16 ? e.register(value) : e.use(value))).join(', ');
  e.line(`${form} ${e.define(node.results[0])}, [${e.register(address)}], ${operands}`);
}

function reduce(e: Emitter, node: Node): void {
  const [address, ...values] = node.args;
  const name = choiceOf(node, 'function', FUNCTIONS);
  if (name === 'exch' || name === 'cas') throw e.error(`${name} gives the old value: use atomic`);
  const type = values[0].type;
  const order = choiceOf(node, 'order', ['relaxed', 'release'], 'relaxed');
  const count = numberOf(node, 'count', values.length);
  if (count !== values.length) throw e.error(`reduce of ${count} values has ${values.length}`);
  let vector = '';
  if (count > 1) {
    if (address.type !== 'ptr.global') throw e.error('reductions of vectors are for global memory');
    e.need(8.1, 'sm_90', 'a reduction of a vector');
    vector = `.v${count}`;
  }
  const registers = values.map((value) => e.register(value));
  const source = count > 1 ? `{${registers.join(', ')}}` : registers[0];
  const form = `red.${order}${scopeOf(e, node)}${spaceOf(e, address)}.${nameOf(name, type)}`;
  e.line(`${form}${vector}.${typeOf(e, name, type)} [${e.register(address)}], ${source}`);
}

export const ATOMIC_EMITTERS: Readonly<Record<string, EmitNode>> = { atomic, reduce };
