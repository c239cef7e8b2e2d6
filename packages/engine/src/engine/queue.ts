import { assert, RoseError } from '../errors.ts';
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
  /** Its number in the order of arrival: the queue writes it. */
  arrival: number;
  /** Its level of priority when it was taken: smaller is sooner. */
  rank: number;
  cancelled: boolean;
  /** Why it has to leave, if it has. */
  readonly fault?: RoseError | undefined;
  /** Whether it was taken before: its client may have had tokens of it. */
  readonly begun: boolean;
}

export interface QueueLimits {
  /** Most entries that wait; one more is refused with `overloaded`. */
  readonly entries: number;
  /** An entry that has not begun after so long is refused with `unavailable`; undefined: none is. */
  readonly timeoutMs: number | undefined;
}

/** Entries of one tenant and one priority, oldest first. Only the first one waits for others. */
interface Line<T> {
  readonly tenant: string;
  readonly priority: number;
  readonly entries: T[];
  /** Admissions of better priority, and all admissions, before this line was served last or began. */
  passedAt: number;
  servedAt: number;
}

/** Each time so many of better priority went first, a line counts as one level of priority sooner. */
const PATIENCE = 16;
/** A line that so many others went before goes first among those of its level, whatever its tenant was served. */
const LONGEST_WAIT = 256;
/** Priorities beyond this many levels count as this: with `PATIENCE` it bounds how often others can go first. */
const MOST_LEVELS = 100;
const MOST_RETRY_SECONDS = 60;

/**
 * Requests that are not running yet. The next one is the one with the smallest priority; among equals it is the
 * tenant's that was served least, and among its requests the one that came first. Nobody waits for ever: a tenant's
 * first request of a priority gains on others as they are preferred to it.
 */
export class WaitQueue<T extends QueueEntry> {
  readonly tenants: Tenants = new Tenants();
  /** Lines that somebody stands in. */
  readonly #lines: Line<T>[] = [];
  readonly #limits: QueueLimits;
  #count = 0;
  #held = 0;
  #arrivals = 0;
  #admissions = 0;
  /** Admissions of better priority than each one, from -MOST_LEVELS on. */
  readonly #better = new Float64Array(2 * MOST_LEVELS + 1);
  #lastAdmission = 0;
  /** Mean time between admissions lately, in milliseconds. */
  #interval = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#count + this.#held;
  }

  /**
   * A new entry; its tenant is present until `leave`.
   * @param held whether somebody else keeps it until `putBack`; it counts as waiting all the same
   * @returns the entry that had to leave for it: in a full queue, the tenant with the most entries makes room for one
   * that has fewer
   * @throws RoseError `overloaded` when the queue is full and nobody makes room
   */
  enter(entry: T, held = false): T | undefined {
    let displaced: T | undefined;
    if (this.length >= this.#limits.entries) {
      displaced = this.#displace(entry.tenant);
      if (displaced === undefined) throw this.full();
    }
    entry.arrival = this.#arrivals++;
    this.tenants.enter(entry.tenant);
    if (held) this.#held++;
    else this.putBack(entry);
    return displaced;
  }

  /** What a request is told that the queue has no room for. */
  full(): RoseError {
    const message = `the queue is full (${this.#limits.entries} requests wait): try again later`;
    return new RoseError('overloaded', message, { retryAfterSeconds: this.retryAfterSeconds() });
  }

  /** An entry that was taken has to wait again, in its old place. */
  putBack(entry: T): void {
    const { tenant, priority } = entry;
    let line = this.#lines.find((other) => other.tenant === tenant && other.priority === priority);
    if (line === undefined) {
      const passedAt = this.#better[levelOf(priority) + MOST_LEVELS];
      line = { tenant, priority, entries: [], passedAt, servedAt: this.#admissions };
      this.#lines.push(line);
    }
    let at = line.entries.length;
    while (at > 0 && entry.arrival < line.entries[at - 1].arrival) at--;
    line.entries.splice(at, 0, entry);
    this.#count++;
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
    let best: Line<T> | undefined;
    for (const line of this.#lines) if (best === undefined || this.#before(line, best)) best = line;
    return best?.entries[0];
  }

  /** Take out the entry that `peek` gave. */
  take(entry: T, now: number): void {
    const line = this.#lines.find(({ entries }) => entries[0] === entry);
    assert(line !== undefined, 'an entry that is not first in its line was taken');
    entry.rank = this.#level(line);
    this.#admissions++;
    for (let level = levelOf(line.priority) + 1; level <= MOST_LEVELS; level++) this.#better[level + MOST_LEVELS]++;
    line.passedAt = this.#better[levelOf(line.priority) + MOST_LEVELS];
    line.servedAt = this.#admissions;
    this.#remove(line, 0);
    const interval = this.#lastAdmission === 0 ? 0 : now - this.#lastAdmission;
    this.#interval += (interval - this.#interval) / 16;
    this.#lastAdmission = now;
  }

  /** Take out an entry that was taken before, out of turn. */
  takeAgain(entry: T): void {
    const line = this.#lines.find(({ entries }) => entries.includes(entry));
    assert(line !== undefined, 'an entry that does not wait was taken again');
    this.#remove(line, line.entries.indexOf(entry));
  }

  find(id: number): T | undefined {
    for (const { entries } of this.#lines) {
      const entry = entries.find((candidate) => candidate.id === id);
      if (entry !== undefined) return entry;
    }
    return undefined;
  }

  /** Take out entries that `leaves` says yes to. */
  sweep(leaves: (entry: T) => boolean): void {
    for (let l = this.#lines.length - 1; l >= 0; l--) {
      const line = this.#lines[l];
      for (let at = line.entries.length - 1; at >= 0; at--) {
        const entry = line.entries[at];
        if (!leaves(entry)) continue;
        this.leave(entry);
        this.#remove(line, at);
      }
    }
  }

  /** Why an entry has to go before it ends by itself; undefined while it may stay. */
  reasonToLeave(entry: QueueEntry, now: number, begun: boolean): RoseError | undefined {
    if (entry.fault !== undefined) return entry.fault;
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

  /** The integrity check: lines in order, and as many requests of tenants present as wait or run. */
  check(taken: readonly T[]): void {
    let count = 0;
    for (const { tenant, priority, entries } of this.#lines) {
      assert(entries.length > 0, `nobody stands in the line of '${tenant}'`);
      entries.forEach((entry, i) => {
        assert(entry.tenant === tenant && entry.priority === priority, `request ${entry.id} stands in a wrong line`);
        assert(i === 0 || entries[i - 1].arrival < entry.arrival, `request ${entry.id} stands in a wrong place`);
      });
      count += entries.length;
    }
    assert(count === this.#count, `${this.#count} requests wait, and ${count} stand in lines`);
    const present = taken.length + this.length;
    assert(this.tenants.present === present, `${this.tenants.present} requests of tenants, and ${present} are there`);
  }

  /** Take out what would be served last of the tenant that has most entries, if that has more than `tenant` will. */
  #displace(tenant: string): T | undefined {
    const counts = new Map<string, number>();
    for (const line of this.#lines) counts.set(line.tenant, (counts.get(line.tenant) ?? 0) + line.entries.length);
    let most = (counts.get(tenant) ?? 0) + 1;
    let fullest: string | undefined;
    for (const [name, count] of counts) if (count > most) [most, fullest] = [count, name];
    const lines = this.#lines.filter((line) => line.tenant === fullest).toSorted((a, b) => b.priority - a.priority);
    for (const line of lines) {
      const at = line.entries.findLastIndex((entry) => !entry.begun);
      if (at < 0) continue;
      const last = line.entries[at];
      this.#remove(line, at);
      this.leave(last);
      return last;
    }
    return undefined;
  }

  #remove(line: Line<T>, at: number): void {
    line.entries.splice(at, 1);
    this.#count--;
    if (line.entries.length === 0) this.#lines.splice(this.#lines.indexOf(line), 1);
  }

  #before(a: Line<T>, b: Line<T>): boolean {
    const levels = this.#level(a) - this.#level(b);
    if (levels !== 0) return levels < 0;
    if (a.tenant !== b.tenant) {
      const late = Number(this.#overdue(b)) - Number(this.#overdue(a));
      if (late !== 0) return late < 0;
      const served = this.tenants.served(a.tenant) - this.tenants.served(b.tenant);
      if (served !== 0) return served < 0;
    }
    return a.entries[0].arrival < b.entries[0].arrival;
  }

  #level({ priority, passedAt }: Line<T>): number {
    const level = levelOf(priority);
    return level - Math.floor((this.#better[level + MOST_LEVELS] - passedAt) / PATIENCE);
  }

  #overdue({ servedAt }: Line<T>): boolean {
    return this.#admissions - servedAt >= LONGEST_WAIT;
  }
}

function levelOf(priority: number): number {
  return Math.min(Math.max(priority, -MOST_LEVELS), MOST_LEVELS);
}
