import type { TypeName } from '../types/dtype.ts';
import { isFloat } from '../types/dtype.ts';
import { operand } from './convert.ts';
import { need, type Trace } from './state.ts';
import type { Tensor } from './tensor.ts';

export interface AtomicOptions {
  readonly order?: 'relaxed' | 'acquire' | 'release' | 'acq_rel';
  readonly scope?: 'cta' | 'cluster' | 'gpu' | 'sys';
}

export type AtomicFunction = 'add' | 'min' | 'max' | 'and' | 'or' | 'xor' | 'exch' | 'inc' | 'dec';

/**
 * Changes the first element of a tensor at once for all threads of the scope (default: the GPU); gives the value before.
 * The order of additions of floats differs from run to run: exact kernels use none.
 */
export function atomic<T extends number>(
  tensor: Tensor<T>,
  operation: AtomicFunction,
  value: T,
  options: AtomicOptions = {},
): T {
  return change(tensor, operation, [value], options);
}

/** Puts `value` where `expected` stands; gives what stood there. */
export function compareAndSwap<T extends number>(
  tensor: Tensor<T>,
  expected: T,
  value: T,
  options: AtomicOptions = {},
): T {
  return change(tensor, 'cas', [expected, value], options);
}

/** As `atomic`, without the value before, which is cheaper. */
export function atomicUpdate<T extends number>(
  tensor: Tensor<T>,
  operation: Exclude<AtomicFunction, 'exch'>,
  value: T,
  options: AtomicOptions = {},
): void {
  const trace = need('an atomic operation');
  check(trace, tensor.type, operation);
  const args = [tensor.address, operand(trace, value, tensor.type)];
  trace.builder.emit('reduce', { args, attributes: { function: operation, count: 1, ...defaults(options) } });
}

function change<T extends number>(
  tensor: Tensor<T>,
  operation: AtomicFunction | 'cas',
  values: readonly T[],
  options: AtomicOptions,
): T {
  const trace = need('an atomic operation');
  const { type } = tensor;
  check(trace, type, operation);
  const args = [tensor.address, ...values.map((value) => operand(trace, value, type))];
  const attributes = { function: operation, ...defaults(options) };
  return trace.builder.value('atomic', type, { args, attributes }) as unknown as T;
}

function defaults({ order = 'relaxed', scope = 'gpu' }: AtomicOptions): { order: string; scope: string } {
  return { order, scope };
}

function check(trace: Trace, type: TypeName, operation: string): void {
  if (isFloat(type) && operation !== 'add' && operation !== 'exch') {
    trace.fail(`an atomic ${operation} works on integers, not on ${type}`);
  }
}
