import { divideByZero, isZero } from './arithmetic.ts';
import { condition, constant, isDevice, operand } from './convert.ts';
import { need } from './state.ts';
import type { i32, u32, u64 } from './types.ts';
import type { Value } from '../ir/ir.ts';

/** Waits for `threads` threads at the named barrier `id`, 1 to 15; 0 is the one of `sync()`. All of a warp take part. */
export function syncNamed(id: number, threads: number): void {
  named('barrier', id, threads);
}

/** Arrives at a named barrier without waiting; others wait there with `syncNamed`. `threads` counts both. */
export function arriveNamed(id: number, threads: number): void {
  named('barrier_arrive', id, threads);
}

function named(op: string, id: number, count: number): void {
  const trace = need(op);
  if (!Number.isInteger(id) || id < 0 || id > 15) trace.fail(`a barrier has a number from 0 to 15, not ${String(id)}`);
  if (!Number.isInteger(count) || count < 32 || count % 32 !== 0) {
    trace.fail(`a barrier counts threads of whole warps, a multiple of 32, not ${String(count)}`);
  }
  trace.builder.emit(op, { attributes: { id, count } });
}

function reduced<T>(operation: string, type: 'pred' | 'u32', test: boolean): T {
  const trace = need('a barrier');
  const given: unknown = test;
  const holds = isDevice(given) ? condition(trace, given) : operand(trace, given, 'pred');
  const attributes = { function: operation };
  return trace.builder.value('barrier_reduce', type, { args: [holds], attributes }) as unknown as T;
}

/** `sync()` that tells every thread whether a condition holds in all of the CTA. */
export function syncAll(test: boolean): boolean {
  return reduced('and', 'pred', test);
}

/** `sync()` that tells every thread whether a condition holds in any of the CTA. */
export function syncAny(test: boolean): boolean {
  return reduced('or', 'pred', test);
}

/** `sync()` that tells every thread in how many of the CTA a condition holds. */
export function syncCount(test: boolean): u32 {
  return reduced('popc', 'u32', test);
}

/** True in one lane of the warp, the same one each time. */
export function elect(): boolean {
  return need('elect').builder.value('elect', 'pred') as unknown as boolean;
}

/** Sleeps for about so many nanoseconds, in loops that wait for others. */
export function nanosleep(time: number): void {
  const trace = need('nanosleep');
  trace.builder.emit('nanosleep', { args: [operand(trace, time, 'u32')] });
}

/** Ends the grid with an error. */
export function trap(): void {
  need('trap').builder.emit('trap');
}

/** Number of the multiprocessor. */
export function smId(): i32 {
  return need('smId').builder.value('special', 'i32', { attributes: { name: 'smid' } }) as unknown as i32;
}

/** A bit for each lane below this one. */
export function lanesBelow(): u32 {
  return need('lanesBelow').builder.value('special', 'u32', { attributes: { name: 'lanemask_lt' } }) as unknown as u32;
}

/** Nanoseconds of a clock that all multiprocessors share. */
export function globalTimer(): u64 {
  return need('globalTimer').builder.value('clock', 'u64', { attributes: { name: 'globaltimer' } }) as unknown as u64;
}

/** Numbers known at compile time: a loop over them is unrolled, and says so. */
export function* unroll(start: number, end?: number, step: number = 1): Generator<number> {
  const [from, to] = end === undefined ? [0, start] : [start, end];
  for (const bound of [from, to, step] as unknown[]) {
    if (isDevice(bound)) need('unroll').fail('unroll() needs bounds known at compile time: use range()');
  }
  if (step === 0) throw new RangeError('a loop needs a step other than 0');
  for (let i = from; step > 0 ? i < to : i > to; i += step) yield i;
}

/** Quotient of two numbers of at least 0, rounded up. */
export function ceilDiv(a: number, b: number): i32 {
  const [x, y]: unknown[] = [a, b];
  if (isZero(y)) divideByZero('div', x);
  if (!isDevice(x) && !isDevice(y)) return Math.ceil(a / b);
  const trace = need('ceilDiv');
  const { type } = isDevice(x) ? x : (y as Value);
  const [p, q] = [operand(trace, x, type), operand(trace, y, type)];
  const less = trace.builder.value('sub', type, { args: [q, constant(trace, 1, type)] });
  const sum = trace.builder.value('add', type, { args: [p, less] });
  return trace.builder.value('div', type, { args: [sum, q] }) as unknown as i32;
}
