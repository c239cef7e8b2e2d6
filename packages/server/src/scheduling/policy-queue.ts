import { TritonError } from '../triton/errors.ts';
import type { Job } from './job.ts';

/** When a request that waits is refused. */
export interface QueuePolicy {
  /** What happens to a request that waited too long: it is refused, or goes behind those that have not. */
  readonly action: 'reject' | 'delay';
  /** Nanoseconds; 0: no limit. */
  readonly timeout: number;
  /** A request may ask for a shorter time. */
  readonly allowOverride: boolean;
  /** Requests that may wait; 0: any number. */
  readonly maxSize: number;
}

export const NO_POLICY: QueuePolicy = { action: 'reject', timeout: 0, allowOverride: false, maxSize: 0 };

interface Entry {
  readonly job: Job;
  /** Nanoseconds; Infinity: never. */
  readonly expires: number;
}

/** Requests of one priority level, in their order; expired ones that were only delayed come last. */
export class PolicyQueue {
  readonly #policy: QueuePolicy;
  #waiting: Entry[] = [];
  #delayed: Entry[] = [];

  constructor(policy: QueuePolicy) {
    this.#policy = policy;
  }

  get size(): number {
    return this.#waiting.length + this.#delayed.length;
  }

  get jobs(): Job[] {
    return [...this.#waiting, ...this.#delayed].map(({ job }) => job);
  }

  /** When the next request expires; Infinity: none does. */
  get nextExpiry(): number {
    let least = Infinity;
    for (const { expires } of this.#waiting) if (expires < least) least = expires;
    return least;
  }

  /** @throws TritonError when it is full */
  add(job: Job): void {
    const { maxSize, allowOverride } = this.#policy;
    if (maxSize > 0 && this.size >= maxSize) {
      const id = job.request.id === '' ? '<id_unknown>' : job.request.id;
      throw new TritonError(503, `[request id: ${id}] Exceeds maximum queue size`);
    }
    let { timeout } = this.#policy;
    const wanted = (job.request.timeoutMs ?? 0) * 1e6;
    if (allowOverride && wanted > 0 && wanted < timeout) timeout = wanted;
    this.#waiting.push({ job, expires: timeout > 0 ? job.arrived + timeout : Infinity });
  }

  /** Jobs that had left, in front of all others. They have waited long enough, so they do not expire. */
  putBack(jobs: readonly Job[]): void {
    this.#waiting.unshift(...jobs.map((job) => ({ job, expires: Infinity })));
  }

  shift(): Job | undefined {
    return (this.#waiting.shift() ?? this.#delayed.shift())?.job;
  }

  remove(jobs: ReadonlySet<Job>): void {
    this.#waiting = this.#waiting.filter(({ job }) => !jobs.has(job));
    this.#delayed = this.#delayed.filter(({ job }) => !jobs.has(job));
  }

  /** Refuse or delay what has waited too long. */
  expire(at: number): void {
    if (this.nextExpiry > at) return;
    const expired = this.#waiting.filter(({ expires }) => expires <= at);
    this.#waiting = this.#waiting.filter(({ expires }) => expires > at);
    if (this.#policy.action === 'delay') {
      this.#delayed.push(...expired);
      return;
    }
    for (const { job } of expired) job.fail(new TritonError(503, 'Request timeout expired'), 'REJECTED');
  }
}
