import { encodeTcgen05Descriptor, encodeWgmmaDescriptor, SWIZZLE_MODES } from '../atoms/descriptors.ts';
import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import { KernelError } from '../ir/error.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { CONVERSIONS } from './conversions.ts';
import { isBig, wrap } from './lanes.ts';

/** JavaScript for what each lane computes by itself: one expression for each result. `$` makes an operand's. */
export type Expression = (node: Node, $: (value: Value) => string) => string | string[];

function small(type: TypeName): 'f16' | 'bf16' | undefined {
  return type === 'f16' || type === 'bf16' ? type : undefined;
}

function pair(type: TypeName): 'f16' | 'bf16' | undefined {
  return type === 'f16x2' ? 'f16' : type === 'bf16x2' ? 'bf16' : undefined;
}

function refuse(node: Node): KernelError {
  const types = node.args.map((value) => value.type).join(', ');
  return new KernelError(`there is no ${node.op} of ${types}: convert first`, node.position);
}

/** Arithmetic in every type; `int` and `big` are the plain operators. */
function arithmetic(op: string, operator: string): Expression {
  return (node, $) => {
    const type = node.results[0].type;
    const args = node.args.map($);
    const [a, b, c = '0'] = args;
    if (type === 'f32') {
      if (op === 'fma' || op === 'mad') return `H.fma(${a},${b},${c})`;
      return `H.fround(${a}${operator}${b})`;
    }
    if (type === 'f64') return op === 'fma' || op === 'mad' ? `H.fmaF64(${a},${b},${c})` : `(${a}${operator}${b})`;
    const one = small(type);
    if (one) return `H.arithmetic16('${op}','${one}',${a},${b},${c})`;
    const two = pair(type);
    if (two) return `H.arithmeticPair('${op}','${two}',${a},${b},${c})`;
    if (type === 'f32x2') return `H.arithmeticLong('${op}',${a},${b},${args[2] ?? '0n'})`;
    const { kind } = TYPES[type];
    if (kind !== 'i' && kind !== 'u') throw refuse(node);
    if (op === 'fma' || op === 'mad') {
      return wrap(type, isBig(type) ? `(${a}*${b}+${c})` : `(Math.imul(${a},${b})+${c})`);
    }
    if (op === 'mul' && !isBig(type)) return wrap(type, `Math.imul(${a},${b})`);
    return wrap(type, `(${a}${operator}${b})`);
  };
}

const divide: Expression = (node, $) => {
  const type = node.results[0].type;
  const [a, b] = node.args.map($);
  if (type === 'f32')
    return flagOf(node, 'approx') ? `H.flush(H.fround(H.flush(${a})/H.flush(${b})))` : `H.fround(${a}/${b})`;
  if (type === 'f64') return `(${a}/${b})`;
  const one = small(type);
  if (one) return `H.arithmetic16('div','${one}',${a},${b},0)`;
  if (isBig(type)) return wrap(type, `H.divide(${a},${b})`);
  return wrap(type, `(${b}===0?-1:${a}/${b})`);
};

const remainder: Expression = (node, $) => {
  const type = node.results[0].type;
  const [a, b] = node.args.map($);
  if (TYPES[type].kind === 'f' || TYPES[type].kind === 'v') throw refuse(node);
  return wrap(type, isBig(type) ? `H.remainder(${a},${b})` : `(${b}===0?${a}:${a}%${b})`);
};

function extreme(name: 'min' | 'max'): Expression {
  return (node, $) => {
    const type = node.results[0].type;
    const [a, b] = node.args.map($);
    const op = flagOf(node, 'nan') ? `${name}Nan` : name;
    if (type === 'f32' || type === 'f64') return op === name ? `H.${name}(${a},${b})` : `Math.${name}(${a},${b})`;
    const one = small(type);
    if (one) return `H.arithmetic16('${op}','${one}',${a},${b},0)`;
    const two = pair(type);
    if (two) return `H.arithmeticPair('${op}','${two}',${a},${b},0)`;
    if (type === 'f32x2') return `H.arithmeticLong('${op}',${a},${b},0n)`;
    if (TYPES[type].kind === 'b' || TYPES[type].kind === 'v') throw refuse(node);
    return `(${a}${name === 'min' ? '<' : '>'}${b}?${a}:${b})`;
  };
}

const negate: Expression = (node, $) => {
  const type = node.results[0].type;
  const a = $(node.args[0]);
  if (type === 'f32' || type === 'f64') return `(-${a})`;
  const one = small(type);
  if (one) return `H.negate('${one}',${a})`;
  if (pair(type)) return `(${a}^0x80008000)`;
  if (type === 'f32x2') return `(${a}^0x8000000080000000n)`;
  return wrap(type, `(-(${a}))`);
};

const absolute: Expression = (node, $) => {
  const type = node.results[0].type;
  const a = $(node.args[0]);
  if (type === 'f32' || type === 'f64') return `Math.abs(${a})`;
  if (small(type)) return `(${a}&0x7fff)`;
  if (pair(type)) return `(${a}&0x7fff7fff)`;
  if (type === 'f32x2') return `(${a}&0x7fffffff7fffffffn)`;
  return wrap(type, `(${a}<0?-${a}:${a})`);
};

function bitwise(operator: string): Expression {
  return (node, $) => {
    const type = node.results[0].type;
    const [a, b] = node.args.map($);
    if (TYPES[type].kind === 'f') throw refuse(node);
    return wrap(type, `(${a}${operator}${b})`);
  };
}

/** Counts are unsigned; beyond the width they leave nothing (or the sign). */
function shift(left: boolean): Expression {
  return (node, $) => {
    const type = node.results[0].type;
    const { bits, kind } = TYPES[type];
    const a = $(node.args[0]);
    const raw = $(node.args[1]);
    const count = isBig(node.args[1].type) ? `Number(BigInt.asUintN(32,${raw}))` : `(${raw}>>>0)`;
    const most = !left && kind === 'i' ? bits - 1 : undefined;
    if (isBig(type)) {
      const n = `BigInt(Math.min(${count},${most ?? bits}))`;
      return wrap(type, left ? `(${a}<<${n})` : `(${a}>>${n})`);
    }
    if (left) return wrap(type, `(${count}>${bits - 1}?0:${a}<<${count})`);
    if (most !== undefined) return `(${a}>>Math.min(${count},${most}))`;
    return wrap(type, `(${count}>${bits - 1}?0:${a}>>>${count})`);
  };
}

const TESTS: Readonly<Record<string, string>> = { eq: '===', ne: '!==', lt: '<', le: '<=', gt: '>', ge: '>=' };
const NEGATED: Readonly<Record<string, string>> = { equ: '!==', neu: '===', ltu: '>=', leu: '>', gtu: '<=', geu: '<' };

const compare: Expression = (node, $) => {
  const type = node.args[0].type;
  let [a, b] = node.args.map($);
  const test = textOf(node, 'test');
  const half = small(type);
  if (half) [a, b] = [`H.${half}(${a})`, `H.${half}(${b})`];
  const float = TYPES[type].kind === 'f';
  if (type === 'pred') return test === 'eq' ? `((${a}^${b})===0)` : `((${a}^${b})!==0)`;
  if (test === 'num') return `(${a}===${a}&&${b}===${b})`;
  if (test === 'nan') return `(${a}!==${a}||${b}!==${b})`;
  if (test === 'ne' && float) return `(${a}<${b}||${a}>${b})`;
  if (test === 'neu') return `(${a}!==${b})`;
  if (test === 'equ') return `!(${a}<${b}||${a}>${b})`;
  if (NEGATED[test]) return `!(${a}${NEGATED[test]}${b})`;
  if (!TESTS[test]) throw new KernelError(`compare has no test ${test}`, node.position);
  return `(${a}${TESTS[test]}${b})`;
};

const approximate: Expression = (node, $) => {
  const name = choiceOf(node, 'function', ['ex2', 'lg2', 'rsqrt', 'rcp', 'sqrt', 'tanh', 'sin', 'cos']);
  const a = $(node.args[0]);
  const type = node.args[0].type;
  const half = small(type) ?? pair(type);
  if (half && (name === 'ex2' || name === 'tanh')) {
    const of = (bits: string): string => `H.toFloat('${half}',H.approx('${name}',H.${half}(${bits})),'rn',false,false)`;
    return small(type) ? of(a) : `(${of(`${a}&65535`)}|${of(`${a}>>>16`)}<<16)`;
  }
  if (type !== 'f32') throw refuse(node);
  return `H.approx('${name}',${a})`;
};

const pointerAdd: Expression = (node, $) => {
  const [base, index] = node.args;
  const scale = numberOf(node, 'scale', 1);
  const bytes = numberOf(node, 'bytes', 0);
  const i = index ? (isBig(index.type) ? `Number(${$(index)})` : $(index)) : '';
  const sum = `${$(base)}${index ? `+${i}*${scale}` : ''}+${bytes}`;
  return TYPES[base.type].bits === 64 ? `(${sum})` : `((${sum})>>>0)`;
};

/** Generic addresses of shared memory are those of the cluster's window from here on. */
export const SHARED_WINDOW: number = 2 ** 52;

const pointerCast: Expression = (node, $) => {
  const from = node.args[0].type;
  const to = node.results[0].type;
  const a = $(node.args[0]);
  const [isShared, toShared] = [from, to].map((type) => type === 'ptr.shared' || type === 'ptr.cluster');
  if (isShared === toShared) return a;
  return isShared ? `(${a}+${SHARED_WINDOW})` : `((${a}-${SHARED_WINDOW})>>>0)`;
};

const pointerBits: Expression = (node, $) => {
  const a = $(node.args[0]);
  const [from, to] = [node.args[0].type, node.results[0].type];
  if (isBig(from) === isBig(to)) return TYPES[to].bits === 64 ? (isBig(to) ? wrap(to, a) : a) : wrap(to, a);
  return isBig(to) ? `BigInt(${a})` : TYPES[to].bits === 64 ? `Number(${a})` : `Number(BigInt.asUintN(32,${a}))`;
};

/** Of this warp `W`, in lane `i`. */
const SPECIAL: Readonly<Record<string, string>> = {
  'tid.x': 'W.tidX[i]',
  'tid.y': 'W.tidY[i]',
  'tid.z': 'W.tidZ[i]',
  laneid: 'i',
  warpid: 'W.index',
  smid: 'W.cta.multiprocessor',
  cluster_ctarank: 'W.cta.rank',
  cluster_nctarank: 'W.cta.cluster.ctas.length',
  lanemask_eq: '(1<<i>>>0)',
  lanemask_lt: '((1<<i)-1>>>0)',
  lanemask_le: '((2<<i)-1>>>0)',
  lanemask_gt: '(~((2<<i)-1)>>>0)',
  lanemask_ge: '(~((1<<i)-1)>>>0)',
};

const special: Expression = (node) => {
  const name = textOf(node, 'name');
  if (SPECIAL[name]) return SPECIAL[name];
  const [, stem, axis] = /^(ctaid|nctaid|ntid|cluster_ctaid|cluster_nctaid)\.([xyz])$/.exec(name) ?? [];
  const field = {
    ctaid: 'id',
    nctaid: 'grid',
    ntid: 'threads',
    cluster_ctaid: 'inCluster',
    cluster_nctaid: 'clusterShape',
  }[stem];
  if (field === undefined) throw new KernelError(`there is no special register ${name}`, node.position);
  return `W.cta.${field}[${'xyz'.indexOf(axis)}]`;
};

function descriptor(encode: typeof encodeTcgen05Descriptor): Expression {
  return (node, $) => {
    const bits = encode({
      leading: numberOf(node, 'leading'),
      stride: numberOf(node, 'stride'),
      swizzle: choiceOf(node, 'swizzle', SWIZZLE_MODES),
      baseOffset: numberOf(node, 'base_offset', 0),
      absoluteLeading: flagOf(node, 'absolute_leading'),
    });
    return `(${bits}n|BigInt((${$(node.args[0])}>>>4)&0x3fff))`;
  };
}

/** Integer operations on bits that go through bigints. */
function onBits(make: (args: string[], bits: number, signed: boolean) => string): Expression {
  return (node, $) => {
    const type = node.results[0].type;
    const args = node.args.map((value) => (isBig(value.type) ? $(value) : `BigInt(${$(value)})`));
    const text = make(args, TYPES[type].bits, TYPES[type].kind === 'i');
    return isBig(type) ? wrap(type, text) : wrap(type, `Number(BigInt.asIntN(32,${text}))`);
  };
}

const count: (name: 'popc' | 'clz') => Expression = (name) => (node, $) => {
  const a = $(node.args[0]);
  const of = name === 'popc' ? (x: string) => `H.popc(${x})` : (x: string) => `Math.clz32(${x})`;
  if (!isBig(node.args[0].type)) return of(a);
  const [low, high] = [of(`H.low32(${a})`), of(`H.high32(${a})`)];
  return name === 'popc' ? `(${low}+${high})` : `(H.high32(${a})===0?32+${low}:${high})`;
};

export const EXPRESSIONS: Readonly<Record<string, Expression>> = {
  ...CONVERSIONS,
  special,
  clock: () => 'BigInt(W.cta.cluster.now())',
  add: arithmetic('add', '+'),
  sub: arithmetic('sub', '-'),
  mul: arithmetic('mul', '*'),
  fma: arithmetic('fma', ''),
  mad: arithmetic('mad', ''),
  div: divide,
  rem: remainder,
  min: extreme('min'),
  max: extreme('max'),
  neg: negate,
  abs: absolute,
  mulhi: onBits(([a, b], bits) => `(${a}*${b}>>${bits}n)`),
  mulwide: (node, $) => wrap(node.results[0].type, `(BigInt(${$(node.args[0])})*BigInt(${$(node.args[1])}))`),
  and: bitwise('&'),
  or: bitwise('|'),
  xor: bitwise('^'),
  not: (node, $) => {
    const type = node.results[0].type;
    return type === 'pred' ? `!${$(node.args[0])}` : wrap(type, `(~${$(node.args[0])})`);
  },
  shl: shift(true),
  shr: shift(false),
  bfe: onBits(([a, s, l], bits, signed) => `H.bfe(${a},Number(${s}),Number(${l}),${bits},${signed})`),
  bfi: onBits(([f, b, s, l], bits) => `H.bfi(${f},${b},Number(${s}),Number(${l}),${bits})`),
  prmt: (node, $) => wrap(node.results[0].type, `H.prmt(${node.args.map($).join(',')})`),
  lop3: (node, $) => wrap(node.results[0].type, `H.lop3(${node.args.map($).join(',')},${numberOf(node, 'lut')})`),
  shf: (node, $) => {
    const left = choiceOf(node, 'direction', ['l', 'r']) === 'l';
    const wrapped = choiceOf(node, 'mode', ['wrap', 'clamp']) === 'wrap';
    return wrap(node.results[0].type, `H.shf(${node.args.map($).join(',')},${left},${wrapped})`);
  },
  popc: count('popc'),
  clz: count('clz'),
  brev: (node, $) => {
    const a = $(node.args[0]);
    const type = node.results[0].type;
    if (!isBig(type)) return wrap(type, `H.brev(${a})`);
    return wrap(type, `H.pack64(H.brev(H.high32(${a})),H.brev(H.low32(${a})))`);
  },
  dp4a: (node, $) => {
    const signs = choiceOf(node, 'signs', ['ss', 'su', 'us', 'uu']);
    return wrap(node.results[0].type, `H.dp4a(${node.args.map($).join(',')},${signs[0] === 's'},${signs[1] === 's'})`);
  },
  compare,
  select: (node, $) => `(${$(node.args[0])}?${$(node.args[1])}:${$(node.args[2])})`,
  approx: approximate,
  sqrt: (node, $) =>
    node.results[0].type === 'f64' ? `Math.sqrt(${$(node.args[0])})` : `H.fround(Math.sqrt(${$(node.args[0])}))`,
  rcp: (node, $) => (node.results[0].type === 'f64' ? `(1/${$(node.args[0])})` : `H.fround(1/${$(node.args[0])})`),
  ptr_add: pointerAdd,
  ptr_cast: pointerCast,
  ptr_bits: pointerBits,
  cache_policy: () => '0n',
  map_shared: (node, $) => `((${$(node.args[0])}&0xffffff)+(${$(node.args[1])}+1)*0x1000000>>>0)`,
  // See cancel.ts for the answer's form; the coordinates of nobody are 0, as the emitted PTX has them.
  cluster_launch_query: (node, $) => {
    const answer = $(node.args[0]);
    return [0, 1, 2, 3].map((word) => `Number((${answer})>>${32 * word}n&0xffffffffn)`);
  },
  wgmma_descriptor: descriptor(encodeWgmmaDescriptor),
  tcgen05_descriptor: descriptor(encodeTcgen05Descriptor),
  descriptor_add: (node, $) => {
    const [bits, bytes] = node.args;
    return `H.moveDescriptor(${$(bits)},${bytes ? $(bytes) : numberOf(node, 'bytes')})`;
  },
};
