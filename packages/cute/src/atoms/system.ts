import {
  addressIn,
  combine,
  compare,
  emit,
  loadFrom,
  loop,
  newSlot,
  readSlot,
  results,
  typed,
  when,
  writeSlot,
} from './record.ts';
import type { Int, Place } from './record.ts';
import type { TypeName } from '../types/dtype.ts';

/** Who sees an access in order: the CTA, the cluster, the device, or all devices and the host. */
export type Scope = 'cta' | 'cluster' | 'gpu' | 'sys';

export interface ReadOptions {
  readonly type: TypeName;
  readonly order?: 'weak' | 'relaxed' | 'acquire' | 'volatile';
  readonly scope?: Scope;
}

export interface WriteOptions {
  readonly type: TypeName;
  readonly order?: 'weak' | 'relaxed' | 'release' | 'volatile';
  readonly scope?: Scope;
}

const SPACES: readonly TypeName[] = ['ptr.global', 'ptr.generic', 'ptr.shared', 'ptr.cluster'];

function ordered({
  order = 'relaxed',
  scope = 'sys',
}: {
  readonly order?: string;
  readonly scope?: string;
}): Record<string, string> {
  return order === 'weak' || order === 'volatile' ? { order } : { order, scope };
}

/** Reads a value that other devices or the host write; relaxed, of the whole system, unless said otherwise. */
export function readSystem(from: Place, options: ReadOptions): Int {
  return loadFrom(addressIn(from, SPACES), options.type, ordered(options));
}

/** Reads neighbouring values at once: up to 16 bytes, aligned to their size. */
export function readSystemVector(from: Place, count: number, options: ReadOptions): Int[] {
  const types = Array.from({ length: count }, () => options.type);
  return results('load', types, { args: [addressIn(from, SPACES)], attributes: { count, ...ordered(options) } });
}

/** Writes one value or neighbouring values at once for other devices or the host. */
export function writeSystem(to: Place, value: Int | readonly Int[], options: WriteOptions): void {
  const values = Array.isArray(value) ? (value as readonly Int[]) : [value as Int];
  const args = [addressIn(to, SPACES), ...values.map((item) => typed(item, options.type))];
  emit('store', { args, attributes: { count: values.length, ...ordered(options) } });
}

/** Orders all accesses before with all behind, as seen by the scope. */
export function fence(scope: Scope = 'sys', order: 'acq_rel' | 'sc' = 'acq_rel'): void {
  emit('fence', { attributes: { order, scope } });
}

export interface SpinOptions {
  /** Of the value that is read. */
  readonly type?: TypeName;
  readonly scope?: Scope;
  readonly order?: 'relaxed' | 'acquire' | 'volatile';
  /** Most reads before it gives up. */
  readonly limit: number;
  /** Nanoseconds to rest between reads; 0 does not. */
  readonly sleep?: number;
}

/**
 * Reads a place until the predicate holds of it, at most `limit` times: a lost signal ends in an answer instead of a
 * kernel that never does.
 *
 * @returns whether the predicate held
 */
export function spinUntil(from: Place, until: (value: Int) => boolean, options: SpinOptions): boolean {
  const { type = 'u32', scope = 'sys', order = 'acquire', limit, sleep = 0 } = options;
  if (!Number.isInteger(limit) || limit < 1 || limit > 0x7fffffff) {
    throw new RangeError(`a bounded spin has a limit from 1 to 2147483647 reads, not ${limit}`);
  }
  const address = addressIn(from, SPACES);
  const tries = newSlot('i32', 'tries');
  const found = newSlot('pred', 'found');
  writeSlot(tries, 0);
  writeSlot(found, false as unknown as Int);
  loop(
    `spin${tries.id}`,
    (leave) => {
      when(until(loadFrom(address, type, ordered({ order, scope }))), () => {
        writeSlot(found, true as unknown as Int);
        leave();
      });
      const next = combine('add', readSlot(tries), 1);
      writeSlot(tries, next);
      when(compare('ge', next, limit), leave);
    },
    () => {
      if (sleep > 0) emit('nanosleep', { args: [typed(sleep, 'u32')] });
    },
  );
  return readSlot(found) as unknown as boolean;
}
