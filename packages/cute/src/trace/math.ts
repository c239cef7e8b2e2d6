import type { Value } from '../ir/ir.ts';
import { isFloat, TYPES } from '../types/dtype.ts';
import { operandType } from './arithmetic.ts';
import { computeType, isDevice, operand } from './convert.ts';
import { typeOfAll } from './merge.ts';
import { need } from './state.ts';
import type { f32 } from './types.ts';

type Plain = (...values: number[]) => number;

function approx(name: string, plain: Plain): (x: number) => f32 {
  return (x) => {
    const given: unknown = x;
    if (!isDevice(given)) return plain(x);
    const trace = need(name);
    const packed = TYPES[given.type].kind === 'v';
    const type = packed ? given.type : 'f32';
    if (!packed && !isFloat(given.type))
      trace.fail(`${name} takes a float, not ${given.type}: convert it, e.g. f32(x)`);
    const args = [packed ? given : operand(trace, given, 'f32', `argument of ${name}`)];
    return trace.builder.value('approx', type, { args, attributes: { function: name } }) as unknown as f32;
  };
}

/** 2^x, approximately (2 ulp; subnormal results are 0). */
export const ex2: (x: number) => f32 = approx('ex2', (x) => 2 ** x);
/** log2 x, approximately. */
export const lg2: (x: number) => f32 = approx('lg2', (x) => Math.log2(x));
/** 1 / sqrt(x), approximately (2^-22.9 relative). */
export const rsqrt: (x: number) => f32 = approx('rsqrt', (x) => 1 / Math.sqrt(x));
/** 1 / x, approximately (1 ulp). */
export const rcp: (x: number) => f32 = approx('rcp', (x) => 1 / x);
/** tanh x, approximately (2^-11 relative). */
export const tanh: (x: number) => f32 = approx('tanh', Math.tanh);
/** sin x and cos x, approximately; good for |x| up to about pi. */
export const sin: (x: number) => f32 = approx('sin', Math.sin);
export const cos: (x: number) => f32 = approx('cos', Math.cos);

function exact(op: 'sqrt' | 'rcp', plain: Plain): (x: number) => f32 {
  return (x) => {
    const given: unknown = x;
    if (!isDevice(given)) return plain(x);
    const trace = need(op);
    const type = given.type === 'f64' ? 'f64' : 'f32';
    return trace.builder.value(op, type, { args: [operand(trace, given, type)] }) as unknown as f32;
  };
}

/** Square root, rounded to nearest. */
export const sqrt: (x: number) => f32 = exact('sqrt', Math.sqrt);
/** 1 / x, rounded to nearest. */
export const reciprocal: (x: number) => f32 = exact('rcp', (x) => 1 / x);

function extremum<T extends number>(op: 'min' | 'max', a: T, b: T): T {
  const [x, y]: unknown[] = [a, b];
  if (!isDevice(x) && !isDevice(y)) return Math[op](a, b) as T;
  const trace = need(op);
  const type = operandType(trace, op, x, y);
  return trace.builder.value(op, type, { args: [operand(trace, x, type), operand(trace, y, type)] }) as unknown as T;
}

/** The smaller; of floats the number, where one side is NaN. */
export function min<T extends number>(a: T, b: T): T {
  return extremum('min', a, b);
}
/** The larger; of floats the number, where one side is NaN. */
export function max<T extends number>(a: T, b: T): T {
  return extremum('max', a, b);
}

export function abs<T extends number>(x: T): T {
  const given: unknown = x;
  if (!isDevice(given)) return Math.abs(x) as T;
  const type = computeType(given.type);
  const trace = need('abs');
  return trace.builder.value('abs', type, { args: [operand(trace, given, type)] }) as unknown as T;
}

/** a * b + c, rounded once. */
export function fma<T extends number>(a: T, b: T, c: T): T {
  const given: unknown[] = [a, b, c];
  if (!given.some(isDevice)) return (a * b + c) as T;
  const trace = need('fma');
  const type = typeOfAll(trace, given.filter(isDevice));
  const args = given.map((value) => operand(trace, value, type));
  return trace.builder.value(isFloat(type) || TYPES[type].kind === 'v' ? 'fma' : 'mad', type, { args }) as unknown as T;
}

/** One of two values by a condition; both are computed. */
export function select<T extends number>(test: boolean, yes: T, no: T): T {
  const given: unknown = test;
  if (!isDevice(given)) return test ? yes : no;
  const trace = need('select');
  const type = typeOfAll(trace, [yes, no]);
  const args = [operand(trace, given, 'pred'), operand(trace, yes, type), operand(trace, no, type)];
  return trace.builder.value('select', type, { args }) as unknown as T;
}

function integer(op: 'popc' | 'clz' | 'brev', plain: Plain): (x: number) => number {
  return (x) => {
    const given: unknown = x;
    if (!isDevice(given)) return plain(x);
    const type = op === 'brev' ? given.type : 'u32';
    return need(op).builder.value(op, type, { args: [given] }) as unknown as number;
  };
}

/** Bits that are set. */
export const popc: (x: number) => number = integer('popc', (x) => x.toString(2).replaceAll('0', '').length);
/** Zeros before the highest bit that is set. */
export const clz: (x: number) => number = integer('clz', Math.clz32);

/** Upper 32 or 64 bits of a product. */
export function mulhi<T extends number>(a: T, b: T): T {
  const trace = need('mulhi');
  const type = operandType(trace, 'mulhi', a, b);
  return trace.builder.value('mulhi', type, {
    args: [operand(trace, a, type), operand(trace, b, type)],
  }) as unknown as T;
}

const LOG2_E = Math.LOG2E;

/** e^x = 2^(x log2 e), approximately. */
export function exp(x: number): f32 {
  const given: unknown = x;
  if (!isDevice(given)) return Math.exp(x);
  const trace = need('exp');
  const args = [operand(trace, given, 'f32'), operand(trace, LOG2_E, 'f32')];
  return ex2(trace.builder.value('mul', 'f32', { args }) as unknown as number);
}

/** Natural logarithm, approximately. */
export function log(x: number): f32 {
  const given: unknown = x;
  if (!isDevice(given)) return Math.log(x);
  const trace = need('log');
  const args = [lg2(x) as unknown as Value, operand(trace, Math.LN2, 'f32')];
  return trace.builder.value('mul', 'f32', { args }) as unknown as f32;
}
