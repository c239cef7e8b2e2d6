import { KernelError } from '../ir/error.ts';
import type { Node } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { arithmetic16, arithmeticPair, max, min } from './helpers.ts';
import { wrap } from './lanes.ts';

type Lane = number | bigint;
type Combine = (old: Lane, value: Lane) => Lane;

const known = new Map<string, Combine>();

/** What an atomic, a reduction of copies or a multicast makes of two values, as lanes hold them. */
export function combine(node: Node, name: string, type: TypeName, old: Lane, value: Lane): Lane {
  const key = `${name} ${type}`;
  let run = known.get(key);
  if (!run) known.set(key, (run = make(node, name, type)));
  return run(old, value);
}

const WRAPS = new Map<TypeName, (value: Lane) => Lane>();

function wrapped(type: TypeName, value: Lane): Lane {
  let run = WRAPS.get(type);
  if (!run) {
    // oxlint-disable-next-line typescript/no-implied-eval
    run = new Function('x', `return ${wrap(type, 'x')};`) as (value: Lane) => Lane;
    WRAPS.set(type, run);
  }
  return run(value);
}

function make(node: Node, name: string, type: TypeName): Combine {
  const { kind } = TYPES[type];
  if (name === 'exch') return (_, value) => value;
  if (type === 'f32' || type === 'f64') {
    const round = type === 'f32' ? Math.fround : (x: number) => x;
    if (name === 'add') return (a, b) => round((a as number) + (b as number));
    if (name === 'min' || name === 'max') return (a, b) => (name === 'min' ? min : max)(a as number, b as number);
  }
  if (type === 'f16' || type === 'bf16') {
    if (name === 'add' || name === 'min' || name === 'max') {
      return (a, b) => arithmetic16(name, type, a as number, b as number, 0);
    }
  }
  if (type === 'f16x2' || type === 'bf16x2') {
    const half = type === 'f16x2' ? 'f16' : 'bf16';
    if (name === 'add' || name === 'min' || name === 'max') {
      return (a, b) => arithmeticPair(name, half, a as number, b as number, 0);
    }
  }
  const whole = kind === 'i' || kind === 'u' || kind === 'b';
  if (whole) {
    switch (name) {
      case 'add':
        return (a, b) => wrapped(type, typeof a === 'bigint' ? a + (b as bigint) : a + (b as number));
      case 'min':
        return (a, b) => (a < b ? a : b);
      case 'max':
        return (a, b) => (a > b ? a : b);
      case 'and':
        return (a, b) => wrapped(type, typeof a === 'bigint' ? a & (b as bigint) : a & (b as number));
      case 'or':
        return (a, b) => wrapped(type, typeof a === 'bigint' ? a | (b as bigint) : a | (b as number));
      case 'xor':
        return (a, b) => wrapped(type, typeof a === 'bigint' ? a ^ (b as bigint) : a ^ (b as number));
      case 'inc':
        return (a, b) => (a >= b ? (typeof a === 'bigint' ? 0n : 0) : typeof a === 'bigint' ? a + 1n : a + 1);
      case 'dec':
        return (a, b) => (Number(a) === 0 || a > b ? b : typeof a === 'bigint' ? a - 1n : a - 1);
    }
  }
  throw new KernelError(`${node.op}: there is no ${name} of ${type}`, node.position);
}
