import type { Value } from '../ir/ir.ts';
import type { Int } from './record.ts';
import { addressIn, constantOr, emit, integer, moved, result, sharedBytes, type Place } from './record.ts';

/**
 * A barrier in shared memory that counts threads and bytes. It alternates between two phases: `wait(0)` returns when the
 * first phase has completed, `wait(1)` when the second has, and so on.
 */
export class MBarrier {
  readonly address: Value;

  constructor(address: Value) {
    this.address = address;
  }

  /** One thread sets how many arrivals complete a phase. Others use it after `fenceBarrierInit` and a barrier. */
  init(count: number): void {
    emit('mbarrier_init', { args: [this.address], attributes: { count } });
  }

  /** The place may be used for something else afterwards. */
  invalidate(): void {
    emit('mbarrier_invalidate', { args: [this.address] });
  }

  /**
   * Counts `count` arrivals of this thread; what it wrote before is visible to whoever waits. At another CTA's barrier
   * that takes a fence of the whole GPU: `scope: 'cta'` leaves it out, for who only says that it has read.
   */
  arrive(count: number = 1, options: { readonly scope?: 'cta' | 'cluster' } = {}): void {
    emit('mbarrier_arrive', { args: [this.address], attributes: { count, ...options } });
  }

  /** Arrives once, and the phase also waits for so many bytes of asynchronous copies. */
  expect(bytes: Int): void {
    this.transaction(bytes, true);
  }

  /** The phase waits for so many more bytes; no arrival. */
  expectOnly(bytes: Int): void {
    this.transaction(bytes, false);
  }

  private transaction(bytes: Int, arrive: boolean): void {
    const known = constantOr(bytes);
    const args = known === undefined ? [this.address, integer(bytes, 'i32')] : [this.address];
    emit('mbarrier_expect', { args, attributes: { ...(known === undefined ? {} : { bytes: known }), arrive } });
  }

  /** Whether the phase of this parity has completed; may suspend the thread for up to `hint` nanoseconds. */
  tryWait(parity: Int, options: { readonly scope?: 'cta' | 'cluster'; readonly hint?: number } = {}): boolean {
    return result('mbarrier_try_wait', 'pred', {
      args: [this.address, integer(parity, 'u32')],
      attributes: { ...options },
    });
  }

  /** Waits until the phase of this parity has completed. `scope: 'cluster'` where other CTAs arrive. */
  wait(parity: Int, options: { readonly scope?: 'cta' | 'cluster' } = {}): void {
    emit('mbarrier_wait', { args: [this.address, integer(parity, 'u32')], attributes: { ...options } });
  }

  /** The barrier at the same place in another CTA of the cluster: it can be arrived at, not waited for. */
  on(rank: Int): MBarrier {
    const address = result<Value>('map_shared', 'ptr.cluster', { args: [this.address, integer(rank, 'i32')] });
    return new MBarrier(address);
  }
}

/** Several barriers side by side, e.g. one for each stage of a pipeline. */
export class MBarriers {
  readonly count: number;
  private readonly first: Value;

  constructor(first: Value, count: number) {
    this.first = first;
    this.count = count;
  }

  at(index: Int): MBarrier {
    const known = constantOr(index);
    if (known !== undefined && (known < 0 || known >= this.count)) {
      throw new RangeError(`there are ${this.count} barriers, ${known} is none of them`);
    }
    return new MBarrier(moved(this.first, index, 8));
  }

  /** One thread sets all of them; see `MBarrier.init`. */
  init(count: number): void {
    for (let i = 0; i < this.count; i++) this.at(i).init(count);
  }
}

/** A new barrier in shared memory. */
export function mbarrier(name: string = 'barrier'): MBarrier {
  return new MBarrier(sharedBytes(name, 8, 8));
}

/** New barriers in shared memory. */
export function mbarriers(count: number, name: string = 'barriers'): MBarriers {
  return new MBarriers(sharedBytes(name, 8 * count, 8), count);
}

/** Barriers that this thread initialised are visible to the cluster and to asynchronous copies. */
export function fenceBarrierInit(): void {
  emit('mbarrier_fence_init');
}

/** Orders this thread's accesses before those of asynchronous copies and tensor cores (the async proxy) to that space. */
export function fenceAsync(space: 'shared' | 'global' | 'all' = 'shared'): void {
  emit('fence_proxy_async', { attributes: { space } });
}

/** A barrier from a place in shared memory (8 bytes, aligned to 8). */
export function barrierAt(place: Place): MBarrier {
  return new MBarrier(addressIn(place, ['ptr.shared', 'ptr.cluster']));
}
