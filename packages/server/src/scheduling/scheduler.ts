import { now } from '../backend/protocol.ts';
import { nextBatch, type Batching } from './batching.ts';
import type { Job, JobHolder } from './job.ts';
import { PolicyQueue, type QueuePolicy } from './policy-queue.ts';
import type { Permit } from './rate-limiter.ts';

/** Requests of one model that wait, and the executors that take them. */
export interface JobQueue {
  /** How many wait. */
  readonly waiting: number;
  attach(executor: Executor): void;
  detach(executor: Executor): void;
  /** @throws TritonError when the request cannot wait here */
  add(job: Job): void;
  /** Take back jobs that an executor had and did not begin. */
  putBack(jobs: readonly Job[]): void;
  /** Fail everything that waits. */
  abandon(error: unknown): void;
}

/** What executes batches, one after the other. */
export interface Executor {
  /** Whether it cannot take a batch now. */
  readonly busy: boolean;
  /** What it needs for every batch; undefined: nothing. */
  readonly permit: Permit | undefined;
  execute(batch: readonly Job[]): void;
}

export interface SchedulerOptions {
  /** Undefined: every request is a batch of its own. */
  readonly batching: Batching | undefined;
  /** Queue policies of the priority levels, the first level first. */
  readonly policies: readonly [QueuePolicy, ...QueuePolicy[]];
  /** From 1; where a request names no level that there is. */
  readonly defaultLevel: number;
}

/** Requests in the order of their priority and arrival. */
export class Scheduler implements JobQueue, JobHolder {
  readonly #options: SchedulerOptions;
  readonly #levels: readonly PolicyQueue[];
  readonly #executors: Set<Executor> = new Set();
  #soon: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#levels = options.policies.map((policy) => new PolicyQueue(policy));
  }

  get waiting(): number {
    return this.#levels.reduce((sum, level) => sum + level.size, 0);
  }

  attach(executor: Executor): void {
    this.#executors.add(executor);
    this.dispatch();
  }

  detach(executor: Executor): void {
    this.#executors.delete(executor);
  }

  /** @throws TritonError when the queue of its level is full */
  add(job: Job): void {
    this.#levelOf(job).add(job);
    job.holder = this;
    // Requests that arrive together should be seen together.
    this.#soon ??= setImmediate(() => this.dispatch());
  }

  putBack(jobs: readonly Job[]): void {
    for (const job of jobs) {
      job.putBack();
      job.holder = this;
    }
    for (const level of this.#levels) level.putBack(jobs.filter((job) => this.#levelOf(job) === level));
  }

  cancelled(job: Job): void {
    for (const level of this.#levels) level.remove(new Set([job]));
  }

  taken(): void {}

  /** Fail everything that waits. */
  abandon(error: unknown): void {
    for (const level of this.#levels) {
      const { jobs } = level;
      level.remove(new Set(jobs));
      for (const job of jobs) job.fail(error, 'OTHER');
    }
    clearTimeout(this.#later);
  }

  /** Give executors what they can take. */
  dispatch(): void {
    clearImmediate(this.#soon);
    clearTimeout(this.#later);
    this.#soon = undefined;
    const at = now();
    for (const level of this.#levels) level.expire(at);
    const asking = this.#giveOut(at);
    // Who has got a permit and needs it no longer, as when a request was cancelled, gives it back.
    for (const { busy, permit } of this.#executors) if (!busy && permit !== asking) permit?.end(false);
  }

  /** Returns the permit for which the next batch waits; undefined: it waits for none. */
  #giveOut(at: number): Permit | undefined {
    const { batching } = this.#options;
    for (let executor = this.#free(); executor !== undefined; executor = this.#free()) {
      const { permit } = executor;
      if (batching === undefined && permit === undefined) {
        const job = this.#shift();
        if (job === undefined) return undefined;
        executor.execute([job]);
        continue;
      }
      const jobs = this.#levels.flatMap((level) => level.jobs);
      if (jobs.length === 0) return undefined;
      const decision = batching === undefined ? { batch: jobs.slice(0, 1) } : nextBatch(jobs, batching, at);
      if ('waitNs' in decision) {
        this.#wake(Math.min(decision.waitNs, this.#expiry() - at));
        return undefined;
      }
      if (permit?.take(() => this.dispatch()) === false) {
        this.#wakeForExpiry(at);
        return permit;
      }
      const batch = new Set(decision.batch);
      for (const level of this.#levels) level.remove(batch);
      executor.execute(decision.batch);
    }
    this.#wakeForExpiry(at);
    return undefined;
  }

  /** Who takes the next batch: where they need permits, the one that waits for it, or has the next turn. */
  #free(): Executor | undefined {
    let best: Executor | undefined;
    let least = Infinity;
    for (const executor of this.#executors) {
      if (executor.busy) continue;
      const { permit } = executor;
      if (permit === undefined) return executor;
      const turn = permit.waiting || permit.granted ? -1 : permit.turn;
      if (turn >= least) continue;
      best = executor;
      least = turn;
    }
    return best;
  }

  /** What expires is told so at once, even if nobody is free. */
  #wakeForExpiry(at: number): void {
    const expiry = this.#expiry();
    if (expiry < Infinity) this.#wake(expiry - at);
  }

  /** The next request, of the first level that has one. */
  #shift(): Job | undefined {
    for (const level of this.#levels) {
      const job = level.shift();
      if (job !== undefined) return job;
    }
    return undefined;
  }

  #levelOf({ request: { priority } }: Job): PolicyQueue {
    const level = priority >= 1 && priority <= this.#levels.length ? priority : this.#options.defaultLevel;
    return this.#levels[level - 1];
  }

  #expiry(): number {
    return Math.min(...this.#levels.map((level) => level.nextExpiry));
  }

  #wake(ns: number): void {
    // Timers know whole milliseconds; a wait shorter than one passes on the event loop.
    if (ns < 1e6) this.#soon ??= setImmediate(() => this.dispatch());
    else this.#later = setTimeout(() => this.dispatch(), Math.floor(ns / 1e6));
  }
}
