import { RoseError } from '../errors.ts';
import { Tenants } from './tenants.ts';

/** What waits: it knows its own place, its deadline and whether anybody still wants it. */
export interface QueueEntry {
  readonly id: number;
  /** Whose request it is: the engine is shared fairly between tenants. */
  readonly tenant: string;
  /** Smaller is sooner. */
  readonly priority: number;
  /** Milliseconds since the epoch; undefined: none. */
  readonly deadline: number | undefined;
  /** Milliseconds since the epoch. */
  readonly arrivedAt: number;
  /** Its number in the order of arrival, and the admissions before it came: the queue writes them. */
  arrival: number;
  passedAt: number;
  /** Its level of priority when it was taken: smaller is sooner. */
  rank: number;
  cancelled: boolean;
}

export interface QueueLimits {
  /** Most entries that wait; one more is refused with `overloaded`. */
  readonly entries: number;
  /** An entry that has not begun after so long is refused with `unavailable`; undefined: none is. */
  readonly timeoutMs: number | undefined;
}

/** Each time so many others went first, an entry counts as one level of priority sooner, so that none waits forever. */
const PATIENCE = 16;
/** Priorities beyond this many levels count as this: with `PATIENCE` it bounds how often others can go first. */
const MOST_LEVELS = 100;
const MOST_RETRY_SECONDS = 60;

/**
 * Requests that are not running yet. The next one is the one with the smallest priority; among equals it is the
 * tenant's that was served least, and among its requests the one that came first.
 */
export class WaitQueue<T extends QueueEntry> {
  readonly tenants: Tenants = new Tenants();
  readonly #entries: T[] = [];
  readonly #limits: QueueLimits;
  #held = 0;
  #arrivals = 0;
  #admissions = 0;
  #lastAdmission = 0;
  /** Mean time between admissions lately, in milliseconds. */
  #interval = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#entries.length + this.#held;
  }

  /**
   * A new entry; its tenant is present until `leave`.
   * @param held whether somebody else keeps it until `putBack`; it counts as waiting all the same
   * @throws RoseError `overloaded` when the queue is full
   */
  enter(entry: T, held = false): void {
    const { entries: limit } = this.#limits;
    if (this.length >= limit) {
      const message = `the queue is full (${limit} requests wait): try again later`;
      throw new RoseError('overloaded', message, { retryAfterSeconds: this.retryAfterSeconds() });
    }
    entry.arrival = this.#arrivals++;
    entry.passedAt = this.#admissions;
    this.tenants.enter(entry.tenant);
    if (held) this.#held++;
    else this.#entries.push(entry);
  }

  /** An entry that was taken has to wait again, in its old place. */
  putBack(entry: T): void {
    this.#entries.push(entry);
  }

  /** A held entry is held no longer: it begins, ends, or is put back. */
  letGo(): void {
    this.#held--;
  }

  /** An entry has ended, wherever it was. */
  leave(entry: T): void {
    this.tenants.leave(entry.tenant);
  }

  /** The next entry. */
  peek(): T | undefined {
    let best: T | undefined;
    for (const entry of this.#entries) if (best === undefined || this.#before(entry, best)) best = entry;
    return best;
  }

  /** Take out the entry that `peek` gave. */
  take(entry: T, now: number): void {
    const at = this.#entries.indexOf(entry);
    this.#entries.splice(at, 1);
    entry.rank = this.#level(entry);
    this.#admissions++;
    const interval = this.#lastAdmission === 0 ? 0 : now - this.#lastAdmission;
    this.#interval += (interval - this.#interval) / 16;
    this.#lastAdmission = now;
  }

  find(id: number): T | undefined {
    return this.#entries.find((entry) => entry.id === id);
  }

  /** Take out entries that `leaves` says yes to. */
  sweep(leaves: (entry: T) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i];
      if (leaves(entry)) this.leave(entry);
      else this.#entries[kept++] = entry;
    }
    this.#entries.length = kept;
  }

  /** Why an entry has to go before it ends by itself; undefined while it may stay. */
  reasonToLeave(entry: QueueEntry, now: number, begun: boolean): RoseError | undefined {
    if (entry.cancelled) return new RoseError('cancelled', 'the request was cancelled');
    if (entry.deadline !== undefined && now > entry.deadline) {
      return new RoseError('deadline', 'the request was not done before its deadline');
    }
    const { timeoutMs } = this.#limits;
    if (!begun && timeoutMs !== undefined && now - entry.arrivedAt > timeoutMs) {
      const message = `the request waited ${timeoutMs / 1000} s without being begun: try again later`;
      return new RoseError('unavailable', message, { retryAfterSeconds: this.retryAfterSeconds() });
    }
    return undefined;
  }

  /** In how many seconds the entries that wait now will have been begun, by the rate of late; 1 to 60. */
  retryAfterSeconds(): number {
    const seconds = Math.ceil((this.length * this.#interval) / 1000);
    return Math.min(Math.max(seconds, 1), MOST_RETRY_SECONDS);
  }

  #before(a: T, b: T): boolean {
    const levels = this.#level(a) - this.#level(b);
    if (levels !== 0) return levels < 0;
    if (a.tenant !== b.tenant) {
      const served = this.tenants.served(a.tenant) - this.tenants.served(b.tenant);
      if (served !== 0) return served < 0;
    }
    return a.arrival < b.arrival;
  }

  #level({ priority, passedAt }: T): number {
    const level = Math.min(Math.max(priority, -MOST_LEVELS), MOST_LEVELS);
    return level - Math.floor((this.#admissions - passedAt) / PATIENCE);
  }
}
