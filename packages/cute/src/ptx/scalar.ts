import { choiceOf, flagOf, numberOf, textOf } from '../ir/attributes.ts';
import type { Node, Value } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import type { Emitter, EmitNode } from './emitter.ts';
import { paramName } from './params.ts';
import { bitsSuffix, classOf, REGISTER_TYPES, suffixOf } from './registers.ts';

/** Integers of 8 bits compute as 16-bit ones. */
function arithmeticType(type: TypeName): string {
  return type === 'i8' ? 's16' : type === 'u8' ? 'u16' : suffixOf(type);
}

/** What arithmetic in these types needs beyond f16's, which every target has. */
function needArithmetic(e: Emitter, type: TypeName): void {
  if (type === 'bf16' || type === 'bf16x2') e.need(7.8, 'sm_90', `arithmetic in ${type}`);
  const { bits, kind } = TYPES[type];
  if ((kind === 'f' && bits < 16) || kind === 'b' || kind === 'p' || TYPES[type].element?.startsWith('e')) {
    throw e.error(`there is no arithmetic in ${type}: convert first`);
  }
}

function isFloating(type: TypeName): boolean {
  return TYPES[type].kind === 'f' || TYPES[type].kind === 'v';
}

/** The operand with defined upper bits: 8-bit integers are extended to the 16 bits that hold them. */
function extended(e: Emitter, value: Value): string {
  if (value.type !== 'i8' && value.type !== 'u8') return e.use(value);
  const wide = e.temporary('h');
  e.line(value.type === 'i8' ? `cvt.s16.s8 ${wide}, ${e.register(value)}` : `cvt.u16.u8 ${wide}, ${e.register(value)}`);
  return wide;
}

/** Computes on both halves of an f32x2 where the target has no instruction for the pair. */
function onHalves(e: Emitter, node: Node, instruction: string): void {
  const sources = node.args.map((value) => {
    const halves = [e.temporary('r'), e.temporary('r')];
    e.line(`mov.b64 {${halves.join(', ')}}, ${e.register(value)}`);
    return halves;
  });
  const results = [0, 1].map((i) => {
    const half = e.temporary('r');
    e.line(`${instruction}.f32 ${half}, ${sources.map((halves) => halves[i]).join(', ')}`);
    return half;
  });
  e.line(`mov.b64 ${e.define(node.results[0])}, {${results.join(', ')}}`);
}

function operands(e: Emitter, node: Node): string {
  return node.args.map((value) => e.use(value)).join(', ');
}

/** `add` and its like: rounded explicitly, so that the assembler never contracts them. */
function arithmetic(float: string, integer: string): EmitNode {
  return (e, node) => {
    const type = node.results[0].type;
    needArithmetic(e, type);
    if (type === 'f32x2') {
      if (e.arch.capability < 100) return onHalves(e, node, float);
      e.need(8.6, 'sm_100');
    }
    const instruction = isFloating(type) ? float : integer;
    e.line(`${instruction}.${arithmeticType(type)} ${e.define(node.results[0])}, ${operands(e, node)}`);
  };
}

/** `min`, `max`: without rounding, with a choice about NaN. */
function extreme(name: string): EmitNode {
  return (e, node) => {
    const type = node.results[0].type;
    const element = TYPES[type].element ?? type;
    if (element === 'e4m3' || element === 'e5m2' || TYPES[type].kind === 'b')
      throw e.error(`there is no ${name} of ${type}`);
    const nan = flagOf(node, 'nan') ? '.NaN' : '';
    if (nan !== '' && type === 'f64') throw e.error(`${name} of f64 cannot propagate NaN`);
    if (type === 'f32x2') return onHalves(e, node, `${name}${nan}`);
    const sources = node.args.map((value) => extended(e, value)).join(', ');
    const suffix = `${isFloating(type) ? nan : ''}.${arithmeticType(type)}`;
    e.line(`${name}${suffix} ${e.define(node.results[0])}, ${sources}`);
  };
}

function division(name: 'div' | 'rem'): EmitNode {
  return (e, node) => {
    const [left, right] = node.args;
    const result = node.results[0];
    const type = result.type;
    if (TYPES[type].kind === 'i' || TYPES[type].kind === 'u') {
      const sources = `${extended(e, left)}, ${extended(e, right)}`;
      return e.line(`${name}.${arithmeticType(type)} ${e.define(result)}, ${sources}`);
    }
    if (name === 'rem') throw e.error(`rem is for integers, not ${type}`);
    if (type === 'f32') {
      const rounding = flagOf(node, 'approx') ? 'approx.ftz' : 'rn';
      return e.line(`div.${rounding}.f32 ${e.define(result)}, ${operands(e, node)}`);
    }
    if (type === 'f64') return e.line(`div.rn.f64 ${e.define(result)}, ${operands(e, node)}`);
    if (type !== 'f16' && type !== 'bf16') throw e.error(`there is no div of ${type}`);
    // Float32 has more than twice the digits of both, so that rounding twice is rounding once.
    const wide = [left, right].map((value) => widen(e, e.register(value), type));
    const quotient = e.temporary('r');
    e.line(`div.rn.f32 ${quotient}, ${wide.join(', ')}`);
    e.line(`cvt.rn.${type}.f32 ${e.define(result)}, ${quotient}`);
  };
}

/** A 16-bit float register as float32, exactly. */
export function widen(e: Emitter, register: string, type: 'f16' | 'bf16'): string {
  const wide = e.temporary('r');
  if (type === 'f16') e.line(`cvt.f32.f16 ${wide}, ${register}`);
  else e.line(`mov.b32 ${wide}, {${e.constant('h', 0n)}, ${register}}`);
  return wide;
}

/** `neg`, `abs`. */
function sign(name: string): EmitNode {
  return (e, node) => {
    const [value] = node.args;
    const type = value.type;
    const element = TYPES[type].element ?? type;
    if (element === 'e4m3' || element === 'e5m2' || TYPES[type].kind === 'b')
      throw e.error(`there is no ${name} of ${type}`);
    if (type === 'f32x2') return onHalves(e, node, name);
    if (TYPES[type].kind === 'u') {
      if (name === 'abs') return e.alias(node.results[0], e.register(value));
      return e.line(`neg.s${Math.max(16, TYPES[type].bits)} ${e.define(node.results[0])}, ${e.use(value)}`);
    }
    const source = name === 'abs' ? extended(e, value) : e.use(value);
    e.line(`${name}.${arithmeticType(type)} ${e.define(node.results[0])}, ${source}`);
  };
}

function bitwise(name: string): EmitNode {
  return (e, node) => {
    const type = node.results[0].type;
    const sources = node.args.map((value) =>
      TYPES[type].kind === 'p' || isFloating(type) ? e.register(value) : e.use(value),
    );
    e.line(`${name}.${bitsSuffix(type)} ${e.define(node.results[0])}, ${sources.join(', ')}`);
  };
}

/** Instructions on 32 or 64 untyped bits. */
function onBits(name: string, widths: readonly number[]): EmitNode {
  return (e, node) => {
    const bits = TYPES[node.args[0].type].bits;
    if (!widths.includes(bits))
      throw e.error(`${node.op} is for ${widths.join(' or ')} bits, not ${node.args[0].type}`);
    e.line(`${name}.b${bits} ${e.define(node.results[0])}, ${operands(e, node)}`);
  };
}

/** A 64-bit count or position as the 32 bits that an instruction wants. */
function narrow(e: Emitter, value: Value): string {
  const use = e.use(value);
  if (TYPES[value.type].bits !== 64 || !use.startsWith('%')) return use;
  const low = e.temporary('r');
  e.line(`cvt.u32.u64 ${low}, ${use}`);
  return low;
}

const INTEGER_TESTS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const;
const FLOAT_TESTS = [...INTEGER_TESTS, 'equ', 'neu', 'ltu', 'leu', 'gtu', 'geu', 'num', 'nan'] as const;

function compare(e: Emitter, node: Node): void {
  const [left, right] = node.args;
  const { kind, bits } = TYPES[left.type];
  if (kind === 'f') {
    if (bits < 16) throw e.error(`there is no comparison of ${left.type}: convert first`);
    if (left.type === 'bf16') e.need(7.8, 'sm_90', 'comparing bf16');
  }
  if (kind === 'v' || bits === 128) throw e.error(`there is no comparison of ${left.type}: unpack first`);
  const test = choiceOf(
    node,
    'test',
    kind === 'f' ? FLOAT_TESTS : kind === 'b' || kind === 'p' ? ['eq', 'ne'] : INTEGER_TESTS,
  );
  const sources = `${extended(e, left)}, ${extended(e, right)}`;
  const result = e.define(node.results[0]);
  if (kind === 'p') {
    e.line(`xor.pred ${result}, ${e.register(left)}, ${e.register(right)}`);
    if (test === 'eq') e.line(`not.pred ${result}, ${result}`);
    return;
  }
  e.line(`setp.${test}.${bits < 16 && kind === 'b' ? 'b16' : arithmeticType(left.type)} ${result}, ${sources}`);
}

function select(e: Emitter, node: Node): void {
  const [condition, yes, no] = node.args;
  const kind = classOf(yes.type);
  const p = e.register(condition);
  if (kind === 'p') {
    const [first, second] = [e.temporary('p'), e.temporary('p')];
    e.line(`and.pred ${first}, ${p}, ${e.register(yes)}`);
    e.line(`not.pred ${second}, ${p}`);
    e.line(`and.pred ${second}, ${second}, ${e.register(no)}`);
    return e.line(`or.pred ${e.define(node.results[0])}, ${first}, ${second}`);
  }
  if (kind === 'q') {
    const sources = [e.register(no), e.register(yes)];
    const result = e.define(node.results[0]);
    e.line(`mov.b128 ${result}, ${sources[0]}`);
    return e.line(`@${p} mov.b128 ${result}, ${sources[1]}`);
  }
  const suffix = yes.type === 'f32' || yes.type === 'f64' ? yes.type : REGISTER_TYPES[kind];
  e.line(`selp.${suffix} ${e.define(node.results[0])}, ${e.use(yes)}, ${e.use(no)}, ${p}`);
}

function approximate(e: Emitter, node: Node): void {
  const name = choiceOf(node, 'function', ['ex2', 'lg2', 'rsqrt', 'rcp', 'sqrt', 'tanh', 'sin', 'cos']);
  const type = node.args[0].type;
  const half = type === 'f16' || type === 'f16x2' || type === 'bf16' || type === 'bf16x2';
  if (type !== 'f32' && !(half && (name === 'ex2' || name === 'tanh')))
    throw e.error(`there is no approximate ${name} of ${type}`);
  if (type === 'bf16' || type === 'bf16x2') e.need(7.8, 'sm_90', `approximate ${name} of ${type}`);
  const flush = type === 'f32' ? name !== 'tanh' : name === 'ex2' && type.startsWith('bf16');
  e.line(`${name}.approx${flush ? '.ftz' : ''}.${type} ${e.define(node.results[0])}, ${e.use(node.args[0])}`);
}

function parameter(e: Emitter, node: Node): void {
  const index = numberOf(node, 'index');
  const param = e.kernel.params[index];
  if (!param) throw e.error(`there is no parameter ${index}: the kernel has ${e.kernel.params.length}`);
  const name = paramName(e.kernel, index);
  const result = node.results[0];
  if (param.kind === 'value') {
    if (param.type !== 'pred') return e.line(`ld.param.b${TYPES[param.type].bits} ${e.define(result)}, [${name}]`);
    const byte = e.temporary('h');
    e.line(`ld.param.b8 ${byte}, [${name}]`);
    return e.line(`setp.ne.u16 ${e.define(result)}, ${byte}, 0`);
  }
  const address = e.temporary('d');
  if (param.kind === 'tensor') {
    e.line(`ld.param.u64 ${address}, [${name}]`);
    return e.line(`cvta.to.global.u64 ${e.define(result)}, ${address}`);
  }
  e.need(7.7);
  e.line(`mov.b64 ${address}, ${name}`);
  e.line(`cvta.param.u64 ${e.define(result)}, ${address}`);
}

function special(e: Emitter, node: Node): void {
  const name = textOf(node, 'name');
  if (name.includes('cluster')) e.need(7.8, 'sm_90', `%${name}`);
  const width = TYPES[node.results[0].type].bits;
  const source = name === 'clock' ? 'clock64' : name;
  e.line(`mov.u${width} ${e.define(node.results[0])}, %${source}`);
}

function move(e: Emitter, to: string, type: TypeName, from: string): void {
  const suffix = from.startsWith('0f') ? 'f32' : from.startsWith('0d') ? 'f64' : bitsSuffix(type);
  if (suffix === 'b128') e.need(8.3);
  e.line(`mov.${suffix} ${to}, ${from}`);
}

/** `rcp`, `sqrt`: rounded to nearest. */
function rounded(name: string): EmitNode {
  return (e, node) => {
    const type = node.results[0].type;
    if (type !== 'f32' && type !== 'f64') throw e.error(`${name} is for f32 and f64, not ${type}`);
    e.line(`${name}.rn.${type} ${e.define(node.results[0])}, ${operands(e, node)}`);
  };
}

export const SCALAR_EMITTERS: Readonly<Record<string, EmitNode>> = {
  // Constants are written where they are used.
  const: () => {},
  param: parameter,
  special,
  clock: special,
  add: arithmetic('add.rn', 'add'),
  sub: arithmetic('sub.rn', 'sub'),
  mul: arithmetic('mul.rn', 'mul.lo'),
  fma: arithmetic('fma.rn', 'mad.lo'),
  mad: arithmetic('fma.rn', 'mad.lo'),
  div: division('div'),
  rem: division('rem'),
  min: extreme('min'),
  max: extreme('max'),
  neg: sign('neg'),
  abs: sign('abs'),
  mulhi: (e, node) =>
    e.line(`mul.hi.${suffixOf(node.results[0].type)} ${e.define(node.results[0])}, ${operands(e, node)}`),
  mulwide: (e, node) =>
    e.line(`mul.wide.${suffixOf(node.args[0].type)} ${e.define(node.results[0])}, ${operands(e, node)}`),
  and: bitwise('and'),
  or: bitwise('or'),
  xor: bitwise('xor'),
  not: bitwise('not'),
  shl: (e, node) =>
    e.line(`shl.${bitsSuffix(node.results[0].type)} ${e.define(node.results[0])}, ${operands(e, node)}`),
  shr: (e, node) => {
    const type = node.results[0].type;
    const source = extended(e, node.args[0]);
    const suffix = TYPES[type].kind === 'b' ? bitsSuffix(type) : arithmeticType(type);
    e.line(`shr.${suffix} ${e.define(node.results[0])}, ${source}, ${e.use(node.args[1])}`);
  },
  bfe: (e, node) => {
    const [value, start, length] = node.args;
    const positions = `${narrow(e, start)}, ${narrow(e, length)}`;
    e.line(`bfe.${suffixOf(value.type)} ${e.define(node.results[0])}, ${e.use(value)}, ${positions}`);
  },
  bfi: onBits('bfi', [32, 64]),
  prmt: onBits('prmt', [32]),
  lop3: (e, node) => e.line(`lop3.b32 ${e.define(node.results[0])}, ${operands(e, node)}, ${numberOf(node, 'lut')}`),
  shf: (e, node) => {
    const form = `${choiceOf(node, 'direction', ['l', 'r'])}.${choiceOf(node, 'mode', ['wrap', 'clamp'])}`;
    e.line(`shf.${form}.b32 ${e.define(node.results[0])}, ${operands(e, node)}`);
  },
  popc: onBits('popc', [32, 64]),
  clz: onBits('clz', [32, 64]),
  brev: onBits('brev', [32, 64]),
  dp4a: (e, node) => {
    const [left, right] = choiceOf(node, 'signs', ['ss', 'su', 'us', 'uu']);
    e.line(`dp4a.${left}32.${right}32 ${e.define(node.results[0])}, ${operands(e, node)}`);
  },
  compare,
  select,
  approx: approximate,
  sqrt: rounded('sqrt'),
  rcp: rounded('rcp'),
  slot: (e, node) => {
    for (const slot of node.slots) e.slot(slot);
  },
  // A slot may change later, a value may not: reading copies.
  get: (e, node) => {
    move(e, e.define(node.results[0]), node.results[0].type, e.slot(node.slots[0]));
  },
  set: (e, node) => {
    const value = node.args[0];
    move(e, e.slot(node.slots[0]), value.type, value.type === 'pred' ? e.register(value) : e.use(value));
  },
};
