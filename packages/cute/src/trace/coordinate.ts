import type { Value } from '../ir/ir.ts';
import { TYPES } from '../types/dtype.ts';
import { describe, isDevice } from './convert.ts';
import type { Trace } from './state.ts';

/**
 * Refuses coordinates and numbers of threads that are no integers: a fraction would point between two elements, and NaN
 * nowhere. `_` and what only the layout algebra knows are left to it.
 */
export function checkCoordinate(trace: Trace, coordinate: unknown): void {
  if (typeof coordinate === 'number') {
    if (!Number.isSafeInteger(coordinate)) trace.fail(`the index ${coordinate} is no whole number below 2^53`);
  } else if (isDevice(coordinate)) checkType(trace, coordinate);
  else if (Array.isArray(coordinate)) for (const part of coordinate) checkCoordinate(trace, part);
  else if (typeof coordinate === 'bigint' || typeof coordinate === 'boolean' || typeof coordinate === 'string') {
    trace.fail(`an index is a number or an integer of the device, not ${describe(coordinate)}`);
  }
}

function checkType(trace: Trace, { type }: Value): void {
  const { kind } = TYPES[type];
  if (kind !== 'i' && kind !== 'u') trace.fail(`an index is an integer, not ${type}: convert it, e.g. i32(...)`);
}
