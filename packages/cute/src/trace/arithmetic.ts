import { Value } from '../ir/ir.ts';
import { divisorOfProduct, gcdNumber } from '../layout/arithmetic.ts';
import type { Leaf } from '../layout/leaf.ts';
import { isFloat, TYPES, type TypeName } from '../types/dtype.ts';
import {
  commonType,
  computeType,
  condition,
  constant,
  convert,
  describe,
  isConstant,
  isDevice,
  operand,
} from './convert.ts';
import { need, tracing, type Trace } from './state.ts';

type Plain = (a: never, b: never) => unknown;

export type Binary = 'add' | 'sub' | 'mul' | 'div' | 'rem' | 'and' | 'or' | 'xor' | 'shl' | 'shr';
export type Test = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge';

const SIGNS: Readonly<Record<string, string>> = {
  ...{ add: '+', sub: '-', mul: '*', div: '/', rem: '%', and: '&', or: '|', xor: '^', shl: '<<', shr: '>>' },
  ...{ eq: '===', ne: '!==', lt: '<', le: '<=', gt: '>', ge: '>=', min: 'min', max: 'max' },
};

/** A device value's divisor, a constant's size; 0 divides by everything. */
function divisor(value: unknown): number {
  if (isDevice(value)) return value.divisor;
  const size = Math.abs(Number(value));
  return Number.isSafeInteger(size) ? size : 1;
}

/** What is known to divide the result of an operation on integers. */
function knownDivisor(op: string, a: unknown, b: unknown): number {
  const [x, y] = [divisor(a), divisor(b)];
  if (op === 'add' || op === 'sub') return Math.max(1, gcdNumber(x, y));
  if (op === 'mul') return Math.max(1, divisorOfProduct(x, y));
  if (op === 'shl' && typeof b === 'number' && b >= 0 && b < 31) return divisorOfProduct(x, 2 ** b);
  if (op === 'rem' && typeof b === 'number') return Math.max(1, gcdNumber(x, y));
  if (op === 'div' && typeof b === 'number' && b > 0 && x % b === 0) return Math.max(1, x / b);
  if (op === 'shr' && typeof b === 'number' && b >= 0 && b < 31 && x % 2 ** b === 0) return Math.max(1, x / 2 ** b);
  if (op === 'and' && typeof b === 'number' && b > 0) return Math.max(x & -x, b & -b) || 1;
  return 1;
}

/** The type that two operands compute in; at least one is a device value. */
export function operandType(trace: Trace, op: string, a: unknown, b: unknown): TypeName {
  const sign = SIGNS[op] ?? op;
  if (isDevice(a) && isDevice(b))
    return a.type === b.type ? computeType(a.type) : commonType(trace, sign, a.type, b.type);
  const [value, other] = isDevice(a) ? [a, b] : [b as Value, a];
  if (!isConstant(other)) trace.fail(`${describe(a)} ${sign} ${describe(b)}: the other side must be a number`);
  const type = computeType(value.type);
  if (typeof other === 'number' && !Number.isInteger(other) && (TYPES[type].kind === 'i' || TYPES[type].kind === 'u')) {
    trace.fail(`${type} ${sign} ${other} mixes integers and floats: convert the integer, e.g. f32(i) ${sign} ${other}`);
  }
  return type;
}

/** An operation on two operands of which at least one is a device value. */
export function binary(op: Binary, a: unknown, b: unknown): Value {
  const trace = need('an operation on device values');
  const { builder } = trace;
  const shift = op === 'shl' || op === 'shr';
  if (isDevice(a)) {
    if (op === 'add' || op === 'sub' || shift) {
      if (b === 0 && !isFloat(a.type)) return a;
    } else if (op === 'mul' && b === 1 && a.type !== 'pred') return a;
  } else if (isDevice(b) && !isFloat(b.type)) {
    if ((op === 'add' && a === 0) || (op === 'mul' && a === 1)) return b;
  }
  const type = shift ? shiftType(trace, a, b) : operandType(trace, op, a, b);
  const { kind } = TYPES[type];
  const bits = op === 'and' || op === 'or' || op === 'xor';
  if (kind === 'p' && !bits) trace.fail(`predicates do not compute: convert them, e.g. i32(p)`);
  if (kind === 'f' && (bits || shift || op === 'rem')) {
    trace.fail(`${SIGNS[op]} works on integers, not on ${type}${op === 'rem' ? '' : ': bitcast first'}`);
  }
  if (kind === 'f' && TYPES[type].bits < 16) trace.fail(`${type} does not compute: convert it first, e.g. f32(x)`);
  if (kind === 'a') trace.fail('addresses do not compute: index a tensor instead');
  if ((op === 'div' || op === 'rem') && kind !== 'f' && isZero(b)) divideByZero(op, a);
  const args = [
    operand(trace, a, type),
    shift ? operand(trace, b, isDevice(b) && b.type === 'u32' ? 'u32' : 'i32') : operand(trace, b, type),
  ];
  const result = builder.value(op, type, { args });
  if (kind === 'i' || kind === 'u') result.divisor = knownDivisor(op, a, b);
  return result;
}

/** Whether a divisor is known to be 0. */
export function isZero(value: unknown): boolean {
  if (isDevice(value)) return value.node.op === 'const' && Number(value.node.attributes.value) === 0;
  return value === 0 || value === 0n;
}

/** Integers have no quotient by 0, and the GPU gives any number for it. */
export function divideByZero(op: 'div' | 'rem', a: unknown): never {
  const message = `${op === 'div' ? 'a quotient' : 'a remainder'} by 0: ${isDevice(a) ? a.type : String(a)} is divided by 0`;
  const trace = tracing();
  if (trace) return trace.fail(message);
  throw new RangeError(message);
}

function shiftType(trace: Trace, a: unknown, b: unknown): TypeName {
  if (isDevice(a)) return computeType(a.type);
  if (!isConstant(a)) trace.fail(`${describe(a)} cannot be shifted`);
  return isDevice(b) && b.type === 'u32' ? 'u32' : 'i32';
}

/** A comparison. Values that are no numbers differ from every device value. */
export function compare(test: Test, a: unknown, b: unknown): unknown {
  if (!isDevice(a) || !isDevice(b)) {
    const other = isDevice(a) ? b : a;
    if ((test === 'eq' || test === 'ne') && !isConstant(other)) return test === 'ne';
  }
  const trace = need('a comparison of device values');
  const type = operandType(trace, test, a, b);
  const { kind } = TYPES[type];
  if (kind === 'p') {
    const different = trace.builder.value('xor', 'pred', {
      args: [operand(trace, a, 'pred'), operand(trace, b, 'pred')],
    });
    if (test === 'ne') return different;
    if (test === 'eq') return trace.builder.value('not', 'pred', { args: [different] });
    trace.fail('predicates have no order: convert them, e.g. i32(p)');
  }
  if (kind === 'f' && TYPES[type].bits < 16) trace.fail(`${type} does not compare: convert it first, e.g. f32(x)`);
  const args = [operand(trace, a, type), operand(trace, b, type)];
  // As in JavaScript: every comparison with NaN is false, but that it differs.
  const name = kind === 'f' && test === 'ne' ? 'neu' : test;
  return trace.builder.value('compare', 'pred', { args, attributes: { test: name } });
}

export function negate(value: Value): Value {
  const trace = need('an operation on device values');
  const { kind } = TYPES[value.type];
  if (kind === 'p') trace.fail('a predicate has no negative: write !p');
  const type = computeType(value.type);
  const result = trace.builder.value('neg', type, { args: [operand(trace, value, type)] });
  if (kind === 'i') result.divisor = value.divisor;
  return result;
}

export function invert(value: Value): Value {
  const trace = need('an operation on device values');
  const { kind } = TYPES[value.type];
  if (kind === 'f') trace.fail(`~ works on integers, not on ${value.type}`);
  const type = computeType(value.type);
  return trace.builder.value('not', type, { args: [operand(trace, value, type)] });
}

export function not(value: Value): Value {
  const trace = need('an operation on device values');
  return trace.builder.value('not', 'pred', { args: [condition(trace, value)] });
}

/** `a >>> b`: the bits, filled with zeros from above, as in JavaScript a number that is not negative. */
export function shiftUnsigned(a: unknown, b: unknown): Value {
  const trace = need('an operation on device values');
  const type = shiftType(trace, a, b);
  const value = operand(trace, a, type);
  const unsigned: TypeName = TYPES[type].bits === 64 ? 'u64' : 'u32';
  if (value.type === unsigned) return binary('shr', value, b);
  return binary('shr', trace.builder.value('bitcast', unsigned, { args: [value] }), b);
}

type Operator = (a: unknown, b: unknown) => unknown;

/** JavaScript's operator where neither side is a device value, else the device's. */
function operator(op: Binary, plain: Plain): Operator {
  const compute = plain as Operator;
  return (a, b) => (isDevice(a) || isDevice(b) ? binary(op, a, b) : compute(a, b));
}

export const ADD: Operator = operator('add', (a: number, b: number) => a + b);
export const SUB: Operator = operator('sub', (a: number, b: number) => a - b);
export const MUL: Operator = operator('mul', (a: number, b: number) => a * b);
export const REM: Operator = operator('rem', (a: number, b: number) => a % b);

/** Quotient rounded towards zero. */
export function quotient(a: unknown, b: unknown): unknown {
  if (!isDevice(a) && !isDevice(b)) return isZero(b) ? divideByZero('div', a) : Math.trunc(Number(a) / Number(b));
  return isDevice(a) && b === 1 ? a : binary('div', a, b);
}

// How the layout algebra computes with extents, strides and coordinates that only the device knows.
Value.arithmetic = {
  binary(op, left: Leaf, right: Leaf): Leaf {
    if (op === 'mul' && (left === 0 || right === 0)) return 0;
    if (op === 'rem' && right === 1) return 0;
    if (op === 'div') return quotient(left, right) as Leaf;
    return binary(op, left, right);
  },
};

/** A value as 64-bit integer of its signedness. */
export function wide(trace: Trace, value: Leaf): Value {
  if (typeof value === 'number') return constant(trace, value, 'i64');
  return convert(value, 'i64');
}
