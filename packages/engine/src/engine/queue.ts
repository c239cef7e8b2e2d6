import { RoseError } from '../errors.ts';

/** What waits: it knows its own place, its deadline and whether anybody still wants it. */
export interface QueueEntry {
  readonly id: number;
  /** Smaller is sooner. */
  readonly priority: number;
  /** Milliseconds since the epoch; undefined: none. */
  readonly deadline: number | undefined;
  cancelled: boolean;
}

/** Requests that are not running yet, by priority and, among equals, by arrival. */
export class WaitQueue<T extends QueueEntry> {
  readonly #entries: T[] = [];
  readonly #limit: number;

  /** @param limit most entries that wait; one more is refused with `overloaded` */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#entries.length;
  }

  push(entry: T): void {
    if (this.#entries.length >= this.#limit) {
      throw new RoseError('overloaded', `the queue is full (${this.#limit} requests wait): try again later`);
    }
    let at = this.#entries.length;
    while (at > 0 && this.#entries[at - 1].priority > entry.priority) at--;
    this.#entries.splice(at, 0, entry);
  }

  peek(): T | undefined {
    return this.#entries[0];
  }

  shift(): T | undefined {
    return this.#entries.shift();
  }

  find(id: number): T | undefined {
    return this.#entries.find((entry) => entry.id === id);
  }

  /** Take out entries that `leaves` says yes to. */
  sweep(leaves: (entry: T) => boolean): void {
    let kept = 0;
    for (const entry of this.#entries) {
      if (!leaves(entry)) this.#entries[kept++] = entry;
    }
    this.#entries.length = kept;
  }
}

/** Why an entry has to go before it ends by itself; undefined while it may stay. */
export function reasonToLeave(entry: QueueEntry, now: number): RoseError | undefined {
  if (entry.cancelled) return new RoseError('cancelled', 'the request was cancelled');
  if (entry.deadline !== undefined && now > entry.deadline) {
    return new RoseError('deadline', 'the request was not done before its deadline');
  }
  return undefined;
}
