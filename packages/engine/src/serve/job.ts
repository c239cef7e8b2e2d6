import { RoseError } from '../errors.ts';
import type { EngineClient } from '../engine/client.ts';
import type { EngineEvent, EngineRequest } from '../engine/request.ts';
import type { GenerateRequest, ModelCounters } from './api.ts';
import { EventQueue } from './event-queue.ts';

/** Options that every kind of request has. */
export type CommonRequest = Pick<GenerateRequest, 'tenant' | 'priority' | 'timeoutMs' | 'signal'>;

/** What jobs share: the model they are for, and the list of those under way. */
export interface JobOwner {
  readonly model: number;
  readonly client: EngineClient;
  readonly counters: ModelCounters;
  readonly jobs: Set<Job<unknown>>;
}

/**
 * One client's request from its arrival to its end: its engine requests, its deadline, its abort signal. However it
 * ends, the engine is told at once and nothing of it stays behind, even if nobody reads its events any more.
 */
export class Job<T> {
  readonly #owner: JobOwner;
  readonly #request: CommonRequest;
  readonly #queue = new EventQueue<T>();
  readonly #ids: number[] = [];
  readonly #deadline: number | undefined;
  readonly #abort = (): void => this.fail(new RoseError('cancelled', 'the request was cancelled'));
  #ended = false;

  constructor(owner: JobOwner, request: CommonRequest) {
    this.#owner = owner;
    this.#request = request;
    const { priority = 0 } = request;
    if (!Number.isInteger(priority)) {
      throw new RoseError('invalid', `priority is ${priority}: it must be a whole number`, { param: 'priority' });
    }
    this.#deadline = request.timeoutMs === undefined ? undefined : Date.now() + request.timeoutMs;
    owner.counters.requests++;
    owner.jobs.add(this as Job<unknown>);
    if (request.signal?.aborted === true) this.#abort();
    else request.signal?.addEventListener('abort', this.#abort);
  }

  /** Engine requests sent so far. */
  get submitted(): number {
    return this.#ids.length;
  }

  /** Do other work for the job, unless it has failed, and only until it fails. */
  work<R>(start: () => Promise<R>): Promise<R> {
    return this.#queue.orFail(start);
  }

  /** Send a command to the engine; its events are read with `next`, as `wrap` makes them. */
  submit(command: EngineRequest['command'], wrap: (event: EngineEvent) => T): void {
    const { model, client } = this.#owner;
    const { tenant = '', priority = 0 } = this.#request;
    const push = (event: EngineEvent): void => this.#queue.push(wrap(event));
    // All answers to a prompt are siblings of the first one: the engine computes their prompt once.
    const siblingOf = command.kind === 'generate' ? this.#ids[0] : undefined;
    const request = { model, tenant, priority, deadline: this.#deadline, siblingOf, command };
    this.#ids.push(client.submit(request, push));
  }

  next(): Promise<T> {
    return this.#queue.next();
  }

  /** The engine need not go on with the n-th command. */
  cancel(n: number): void {
    this.#owner.client.cancel(this.#ids[n]);
  }

  succeed(): void {
    this.#end();
  }

  /** The first failure ends the job; whoever reads it gets the error. */
  fail(error: unknown): void {
    if (this.#ended) return;
    const reason = RoseError.from(error);
    if (reason.code === 'cancelled') this.#owner.counters.cancelled++;
    else this.#owner.counters.failures++;
    this.#end();
    this.#queue.fail(reason);
  }

  /** The reader is gone: a job that has not ended counts as cancelled. */
  leave(): void {
    if (!this.#ended) this.#abort();
  }

  #end(): void {
    this.#ended = true;
    for (const id of this.#ids) this.#owner.client.cancel(id);
    this.#request.signal?.removeEventListener('abort', this.#abort);
    this.#owner.jobs.delete(this as Job<unknown>);
  }
}
