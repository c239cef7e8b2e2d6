import { makeNode } from '../ir/builder.ts';
import { Value, type Attribute, type Node } from '../ir/ir.ts';
import { TYPES, type TypeName } from '../types/dtype.ts';
import { need, type Trace } from './state.ts';

/** Types whose every value is also one of the other: these conversions happen by themselves. */
const WIDENS: Readonly<Partial<Record<TypeName, readonly TypeName[]>>> = {
  i8: ['i16', 'i32', 'i64'],
  u8: ['u16', 'u32', 'u64', 'i16', 'i32', 'i64'],
  i16: ['i32', 'i64'],
  u16: ['u32', 'u64', 'i32', 'i64'],
  i32: ['i64'],
  u32: ['u64', 'i64'],
  f16: ['f32', 'f64'],
  bf16: ['f32', 'f64'],
  f32: ['f64'],
};

/** Small integers compute with 32 bits, as in C. */
const COMPUTES_AS: Readonly<Partial<Record<TypeName, TypeName>>> = { i8: 'i32', u8: 'i32', i16: 'i32', u16: 'i32' };

export function isDevice(value: unknown): value is Value {
  return value instanceof Value;
}

/** Whether every value of a type is one of another. */
export function widens(from: TypeName, to: TypeName): boolean {
  return from === to || (WIDENS[from]?.includes(to) ?? false);
}

/** The type in which two device values compute together. */
export function commonType(trace: Trace, op: string, a: TypeName, b: TypeName): TypeName {
  const type = widens(a, b) ? b : widens(b, a) ? a : undefined;
  if (type === undefined) {
    trace.fail(
      `${a} ${op} ${b} mixes types that do not fit into each other: convert one side, e.g. ${a}(...) or ${b}(...)`,
    );
  }
  return COMPUTES_AS[type] ?? type;
}

/** The type in which one device value computes. */
export function computeType(type: TypeName): TypeName {
  return COMPUTES_AS[type] ?? type;
}

/** The value of a constant as an attribute, in the range of its type. */
export function constantAttribute(trace: Trace, value: number | bigint | boolean, type: TypeName): Attribute {
  const { kind, bits } = TYPES[type];
  if (kind === 'p') return value === true || value === 1 ? 1 : 0;
  if (kind === 'f') {
    const number = Number(value);
    if (Number.isNaN(number)) return 'nan';
    if (Math.abs(number) === Infinity) return number > 0 ? 'inf' : '-inf';
    return type === 'f32' ? Math.fround(number) : number;
  }
  const whole = typeof value === 'boolean' ? Number(value) : value;
  if (typeof whole === 'number' && !Number.isInteger(whole)) {
    trace.fail(
      `the constant ${whole} is no whole number, but ${type} is needed: convert the other side, e.g. f32(...)`,
    );
  }
  const big = BigInt(whole);
  const size = 1n << BigInt(bits);
  if (big >= size || big < -(size >> 1n)) trace.fail(`the constant ${big} does not fit into ${type}`);
  const wrapped = kind === 'i' ? BigInt.asIntN(bits, big) : BigInt.asUintN(bits, big);
  return bits === 64 ? String(wrapped) : Number(wrapped);
}

export function constant(trace: Trace, value: number | bigint | boolean, type: TypeName): Value {
  const result = trace.builder.value('const', type, { attributes: { value: constantAttribute(trace, value, type) } });
  if ((TYPES[type].kind === 'i' || TYPES[type].kind === 'u') && value !== 0) result.divisor = divisorOf(Number(value));
  return result;
}

function divisorOf(value: number): number {
  const size = Math.abs(value);
  return Number.isSafeInteger(size) && size > 0 ? size : 1;
}

/** A node that is in no region yet, for a constant that is needed somewhere else. */
export function constantNode(trace: Trace, value: number | bigint | boolean, type: TypeName): Node {
  const attributes = { value: constantAttribute(trace, value, type) };
  return makeNode(trace.kernel, 'const', trace.builder.position, { types: [type], attributes });
}

export function isConstant(value: unknown): value is number | bigint | boolean {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

/** A constant or a device value as a value of a type; conversions that lose nothing happen, others are refused. */
export function operand(trace: Trace, value: unknown, type: TypeName, what = 'value'): Value {
  if (isDevice(value)) {
    if (value.type === type) return value;
    if (widens(value.type, type)) return convert(value, type);
    return trace.fail(`the ${what} has type ${value.type}, but ${type} is needed: convert it, e.g. ${type}(...)`);
  }
  if (isConstant(value)) return constant(trace, value, type);
  return trace.fail(`the ${what} must be a number or a device value of type ${type}, not ${describe(value)}`);
}

export function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (isDevice(value)) return `a device value of type ${value.type}`;
  if (typeof value === 'object') return `an object (${value.constructor?.name ?? 'no class'})`;
  if (typeof value === 'function') return 'a function or tensor';
  if (typeof value === 'string') return JSON.stringify(value);
  return isConstant(value) ? String(value) : typeof value;
}

/** A value as another type, rounded to nearest even; floats to integers round towards zero and saturate. */
export function convert(value: unknown, type: TypeName): Value {
  const trace = need('a conversion');
  if (!isDevice(value)) return operand(trace, value, type);
  if (value.type === type) return value;
  if (TYPES[type].kind === 'p') return compare(trace, value);
  if (value.type === 'pred') {
    return trace.builder.value('select', type, { args: [value, constant(trace, 1, type), constant(trace, 0, type)] });
  }
  const [from, to] = [TYPES[value.type].kind, TYPES[type].kind];
  if (from === 'b' || to === 'b' || from === 'a' || to === 'a' || from === 'v' || to === 'v') {
    trace.fail(`${value.type} does not convert to ${type}: use bitcast(${type}, ...)`);
  }
  const result = trace.builder.value('convert', type, { args: [value] });
  if (from !== 'f' && to !== 'f') result.divisor = value.divisor;
  return result;
}

/** A condition: predicates as they are, numbers where they are not 0, as in JavaScript. */
export function condition(trace: Trace, value: Value): Value {
  return value.type === 'pred' ? value : compare(trace, value);
}

function compare(trace: Trace, value: Value): Value {
  const { kind } = TYPES[value.type];
  if (kind !== 'f' && kind !== 'i' && kind !== 'u') trace.fail(`${value.type} is no condition: compare it`);
  // NaN counts as false.
  return trace.builder.value('compare', 'pred', {
    args: [value, constant(trace, 0, value.type)],
    attributes: { test: 'ne' },
  });
}
