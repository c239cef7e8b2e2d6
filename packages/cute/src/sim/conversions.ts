import { choiceOf, flagOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import type { Expression } from './expressions.ts';
import { fromBits, isBig, toBits, wrap } from './lanes.ts';

/** `convert`, `bitcast`, `pack` and `unpack` as expressions. */

const SMALL = ['f16', 'bf16', 'e4m3', 'e5m2'] as const;
type Small = (typeof SMALL)[number];

function smallOf(type: TypeName): Small | undefined {
  return SMALL.find((name) => name === type);
}

/** A float's number. */
function number(type: TypeName, expression: string): string {
  if (type === 'f16' || type === 'bf16') return `H.${type}(${expression})`;
  const small = smallOf(type);
  return small ? `H.decode('${small}',${expression})` : expression;
}

interface Modes {
  readonly round: string;
  readonly saturate: boolean;
  readonly relu: boolean;
}

/** A number as a float of this type. `from` is a float. */
function toFloat(to: TypeName, from: TypeName, value: string, { round, saturate, relu }: Modes): string {
  const small = smallOf(to);
  if (small) {
    if (small === 'bf16' && from === 'f32' && round === 'rn' && !saturate && !relu) return `H.toBf16(${value})`;
    const eight = small === 'e4m3' || small === 'e5m2';
    // The GPU converts f64 to f32 first.
    const source = eight && from === 'f64' ? `H.fround(${value})` : value;
    return `H.toFloat('${small}',${source},'${round}',${saturate || eight},${relu})`;
  }
  if (to === 'tf32') return `H.toTf32(${value},'${round}',${saturate},${relu})`;
  const clamped = saturate ? `H.saturateUnit(${value})` : relu ? `H.max(${value},0)` : value;
  if (to === 'f64' || from !== 'f64') return clamped;
  return `H.roundF32(${clamped},'${round}')`;
}

function fromInteger(to: TypeName, value: string, { round }: Modes): string {
  const small = smallOf(to);
  if (small === 'e4m3' || small === 'e5m2')
    return `H.toFloat('${small}',H.integerToF32(${value},'rn'),'rn',true,false)`;
  if (small) return `H.integerToFloat('${small}',${value},'${round}')`;
  if (to === 'f64') return `Number(${value})`;
  return `H.integerToF32(${value},'${round}')`;
}

function toInteger(node: Node, from: TypeName, to: TypeName, value: string): string {
  const { bits, kind } = TYPES[to];
  const round = choiceOf(node, 'round', ['rn', 'rz', 'rm', 'rp'], 'rz');
  if (to === 'i32' && from === 'f32' && round === 'rz') return `H.toI32(${value})`;
  return `H.${bits === 64 ? 'toInteger' : 'toInt'}(${value},'${round}',${bits},${kind === 'i'},${from === 'f64'})`;
}

function betweenIntegers(node: Node, from: TypeName, to: TypeName, value: string): string {
  const { bits, kind } = TYPES[to];
  if (flagOf(node, 'saturate')) {
    const clamped = `H.clamp(${value},${bits},${kind === 'i'})`;
    return isBig(to) ? clamped : `Number(${clamped})`;
  }
  if (isBig(to)) return wrap(to, isBig(from) ? value : `BigInt(${from === 'b32' ? `${value}>>>0` : value})`);
  return wrap(to, isBig(from) ? `Number(BigInt.asIntN(32,${value}))` : value);
}

const convert: Expression = (node, $) => {
  const to = node.results[0].type;
  const from = node.args[0].type;
  const modes: Modes = {
    round: choiceOf(node, 'round', ['rn', 'rz', 'rm', 'rp'], 'rn'),
    saturate: flagOf(node, 'saturate'),
    relu: flagOf(node, 'relu'),
  };
  if (TYPES[to].kind === 'v' || TYPES[from].kind === 'v') return packed(node, $, modes);
  const value = $(node.args[0]);
  if (from === to && !modes.saturate && !modes.relu) return value;
  const [source, target] = [TYPES[from].kind, TYPES[to].kind];
  if (to === 'pred') return `(${number(from, value)}!=0)`;
  if (source === 'f') {
    const x = number(from, value);
    return target === 'f' ? toFloat(to, from, x, modes) : toInteger(node, from, to, x);
  }
  const whole = from === 'pred' ? `(${value}?1:0)` : value;
  return target === 'f'
    ? fromInteger(to, whole, modes)
    : betweenIntegers(node, from === 'pred' ? 'i32' : from, to, whole);
};

/** Pairs and quads: from f32, or between f16x2 and pairs of 8-bit floats. */
function packed(node: Node, $: (value: Value) => string, modes: Modes): string {
  const to = node.results[0].type;
  const from = node.args[0].type;
  const { element, lanes } = TYPES[to];
  const args = node.args.map($);
  const eight = element === 'e4m3' || element === 'e5m2';
  if (from === 'f32' && element && args.length === lanes) {
    const bits = eight ? 8 : 16;
    const parts = args.map((x, i) => `${toFloat(element, 'f32', x, modes)}${i > 0 ? `<<${i * bits}` : ''}`);
    return wrap(to, `(${parts.join('|')})`);
  }
  if (to === 'f16x2' && (from === 'e4m3x2' || from === 'e5m2x2')) {
    return `H.widenPair('${TYPES[from].element}',${args[0]},${modes.relu})`;
  }
  if (eight && from === 'f16x2') {
    const half = (bits: string): string => `H.toFloat('${element}',H.f16(${bits}),'rn',true,${modes.relu})`;
    return `(${half(`${args[0]}&65535`)}|${half(`${args[0]}>>>16`)}<<8)`;
  }
  throw new KernelError(
    `convert from ${node.args.map((value) => value.type).join(', ')} to ${to} does not exist`,
    node.position,
  );
}

/** Elements side by side, the first one lowest. */
const pack: Expression = (node, $) => {
  const to = node.results[0].type;
  const width = TYPES[node.args[0].type].bits;
  const bits = node.args.map((value) => toBits(value.type, $(value)));
  if (TYPES[to].bits < 64) {
    const mask = 2 ** width - 1;
    return fromBits(to, `(${bits.map((b, i) => (width === 32 ? b : `(${b}&${mask})<<${i * width}`)).join('|')})`);
  }
  const parts = bits.map((b, i) => `BigInt.asUintN(${width},${width === 64 ? b : `BigInt(${b})`})<<${i * width}n`);
  return fromBits(to, `(${parts.join('|')})`);
};

const unpack: Expression = (node, $) => {
  const from = node.args[0].type;
  const whole = toBits(from, $(node.args[0]));
  const width = TYPES[node.results[0].type].bits;
  return node.results.map((result, i) => {
    if (TYPES[from].bits < 64) return fromBits(result.type, `(${whole}>>>${i * width})`);
    const part = `BigInt.asUintN(${width},${whole}>>${i * width}n)`;
    return fromBits(result.type, width === 64 ? part : `Number(${part})`);
  });
};

export const CONVERSIONS: Readonly<Record<string, Expression>> = {
  convert,
  bitcast: (node, $) => {
    const [from, to] = [node.args[0].type, node.results[0].type];
    if (TYPES[from].bits !== TYPES[to].bits) {
      throw new KernelError(`bitcast from ${from} to ${to}: the widths differ`, node.position);
    }
    return from === to ? $(node.args[0]) : fromBits(to, toBits(from, $(node.args[0])));
  },
  pack,
  unpack,
};
