import { assert, RoseError } from '@rose/engine';
import { now } from '../backend/protocol.ts';
import { invalid, TritonError } from '../triton/errors.ts';
import type { Sequence } from '../triton/model.ts';
import type { Tensor } from '../triton/tensor.ts';
import { nextBatch, type Batching } from './batching.ts';
import type { Job, JobHolder } from './job.ts';
import type { Executor, JobQueue } from './scheduler.ts';

export interface SequenceOptions {
  readonly model: string;
  /** Sequences that an executor works on; more wait until one ends. */
  readonly slots: number;
  /** Nanoseconds without a request after which a sequence is over. */
  readonly idle: number;
  /** A request is a sequence of its own, executed until the model does not ask for more. */
  readonly iterative: boolean;
  /** Inputs that tell the model where a request stands. Throws where the sequence's id has no tensor. */
  readonly controls: (sequence: Sequence) => Tensor[];
  /** States that a sequence begins with, by their inputs. */
  readonly initial: ReadonlyMap<string, Tensor>;
  /** Requests of different sequences are executed together as this says. */
  readonly batching: Batching;
}

/** A sequence under way. Its requests are executed one after the other, all by one executor. */
interface LiveSequence {
  readonly key: string;
  /** Undefined: all slots are taken. */
  executor: Executor | undefined;
  queue: Job[];
  running: Job | undefined;
  /** The last request is there, be it executed or not. */
  closed: boolean;
  /** When its latest request arrived or ended. */
  latest: number;
  /** When it is refused unless it has a slot by then; Infinity: never. */
  expires: number;
  /** What the model has set for its next request. */
  states: ReadonlyMap<string, Tensor>;
}

/** Triton's sequence batcher: requests that belong together go to the same executor, in their order. */
export class SequenceScheduler implements JobQueue, JobHolder {
  readonly #options: SequenceOptions;
  readonly #executors: Set<Executor> = new Set();
  /** In the order of their first requests. */
  #sequences: LiveSequence[] = [];
  /** Of the latest request that was made a sequence of its own. */
  #number = 0n;
  #later: NodeJS.Timeout | undefined;
  #soon: NodeJS.Immediate | undefined;

  constructor(options: SequenceOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#sequences.reduce((sum, { queue }) => sum + queue.length, 0);
  }

  attach(executor: Executor): void {
    this.#executors.add(executor);
    this.dispatch();
  }

  /** What an executor knew of its sequences is lost with it, so they are over. */
  detach(executor: Executor): void {
    this.#executors.delete(executor);
    const lost = this.#sequences.filter((sequence) => sequence.executor === executor);
    this.#sequences = this.#sequences.filter((sequence) => sequence.executor !== executor);
    const error = new TritonError(500, `the instance of model '${this.#options.model}' that had the sequence failed`);
    for (const { queue, running } of lost) {
      for (const job of queue) job.fail(error, 'BACKEND');
      if (running?.waits === true) running.fail(error, 'BACKEND');
    }
  }

  /** @throws TritonError when the request is no part of a sequence that can go on */
  add(job: Job): void {
    const { model, iterative, controls } = this.#options;
    if (iterative) job.sequence ??= { id: ++this.#number, start: true, end: false };
    const { sequence } = job;
    if (job.rows > 1) {
      const rule = 'must specify batch-size 1 due to requirements of sequence batcher';
      throw invalid(`inference request to model '${model}' ${rule}`);
    }
    if (sequence === undefined) {
      throw invalid(`inference request to model '${model}' must specify a non-zero or non-empty correlation ID`);
    }
    controls(sequence);
    // Ids that were given here are nobody else's.
    const key = job.request.sequence === undefined ? `own ${sequence.id}` : keyOf(sequence);
    let live = this.#sequences.find((candidate) => candidate.key === key && !candidate.closed);
    if (live === undefined) {
      if (!sequence.start) {
        throw invalid(
          `inference request for sequence ${sequence.id} to model '${model}' must specify the START flag on the first ` +
            'request of the sequence',
        );
      }
      const nothing = { executor: undefined, running: undefined, closed: false, latest: 0, expires: Infinity };
      live = { key, queue: [], states: this.#options.initial, ...nothing };
      this.#sequences.push(live);
    }
    live.queue.push(job);
    live.latest = job.arrived;
    const { timeoutMs } = job.request;
    if (timeoutMs !== undefined) live.expires = Math.min(live.expires, job.arrived + timeoutMs * 1e6);
    live.closed ||= sequence.end;
    job.holder = this;
    this.#soon ??= setImmediate(() => this.dispatch());
  }

  /** Executors of sequences get one batch at a time, so none has any left. */
  putBack(jobs: readonly Job[]): void {
    assert(jobs.length === 0, 'an executor of sequences had batches that it did not begin');
  }

  /** A sequence of which a request is missing cannot go on. */
  cancelled(job: Job): void {
    const broken = this.#sequences.find(({ queue }) => queue.includes(job));
    if (broken !== undefined) {
      const others = broken.queue.filter((other) => other !== job);
      broken.queue = [];
      broken.closed = true;
      const error = new RoseError('cancelled', 'another request of its sequence was cancelled');
      for (const other of others) other.fail(error, 'CANCELED');
    }
    this.dispatch();
  }

  taken(): void {}

  abandon(error: unknown): void {
    clearTimeout(this.#later);
    clearImmediate(this.#soon);
    const jobs = this.#sequences.flatMap(({ queue }) => queue);
    this.#sequences = [];
    for (const job of jobs) job.fail(error, 'OTHER');
  }

  dispatch(): void {
    clearImmediate(this.#soon);
    clearTimeout(this.#later);
    this.#soon = undefined;
    const at = now();
    this.#settle(at);
    this.#assign();
    this.#expire(at);
    let wait = Infinity;
    for (const executor of this.#executors) {
      if (!executor.busy) wait = Math.min(wait, this.#feed(executor, at));
    }
    for (const sequence of this.#sequences) {
      if (sequence.queue.length === 0 && !sequence.running) {
        wait = Math.min(wait, sequence.latest + this.#options.idle - at);
      }
      if (sequence.executor === undefined) wait = Math.min(wait, sequence.expires - at);
    }
    if (wait === Infinity) return;
    if (wait < 1e6) this.#soon = setImmediate(() => this.dispatch());
    else this.#later = setTimeout(() => this.dispatch(), Math.ceil(wait / 1e6)).unref();
  }

  /** Let go of what has ended, by its last request or by silence. */
  #settle(at: number): void {
    this.#sequences = this.#sequences.filter((sequence) => {
      this.#settleRunning(sequence, at);
      if (sequence.running || sequence.queue.length > 0) return true;
      return !sequence.closed && at - sequence.latest < this.#options.idle;
    });
  }

  /** Refuse what has waited too long for a slot. Whoever found one free has not waited, however late we look. */
  #expire(at: number): void {
    const late = this.#sequences.filter(({ executor, expires }) => executor === undefined && expires <= at);
    this.#sequences = this.#sequences.filter((sequence) => !late.includes(sequence));
    const error = new TritonError(503, 'timeout of the corresponding sequence has been expired');
    for (const { queue } of late) for (const job of queue) job.fail(error, 'REJECTED');
  }

  /** Look whether the request that is executed has ended, or is to be executed again. */
  #settleRunning(sequence: LiveSequence, at: number): void {
    const { running } = sequence;
    if (running === undefined || !(running.ended || running.waits)) return;
    if (running.states && !running.failed) sequence.states = new Map([...sequence.states, ...running.states]);
    running.states = undefined;
    sequence.running = undefined;
    sequence.latest = at;
    if (!running.ended) {
      running.sequence = { ...(running.sequence as Sequence), start: false, end: false };
      running.holder = this;
      sequence.queue.unshift(running);
    } else if (this.#options.iterative) sequence.closed = true;
  }

  /** Give waiting sequences the slots that are free, of the executor that has most of them. */
  #assign(): void {
    const load = new Map([...this.#executors].map((executor) => [executor, 0]));
    for (const { executor } of this.#sequences) {
      if (executor !== undefined) load.set(executor, (load.get(executor) ?? 0) + 1);
    }
    for (const sequence of this.#sequences) {
      if (sequence.executor !== undefined) continue;
      const [executor, count] = [...load].reduce((least, next) => (next[1] < least[1] ? next : least), [
        undefined as Executor | undefined,
        this.#options.slots,
      ] as readonly [Executor | undefined, number]);
      if (executor === undefined) return;
      sequence.executor = executor;
      load.set(executor, count + 1);
    }
  }

  /** Have an executor work on the next request of each of its sequences. Returns nanoseconds to wait for more. */
  #feed(executor: Executor, at: number): number {
    const ready = this.#sequences.filter(
      (sequence) => sequence.executor === executor && sequence.queue.length > 0 && sequence.running === undefined,
    );
    if (ready.length === 0) {
      executor.permit?.end(false);
      return Infinity;
    }
    const jobs = ready.map(({ queue }) => queue[0]).sort((a, b) => a.arrived - b.arrived);
    const decision = nextBatch(jobs, this.#options.batching, at);
    if ('waitNs' in decision) {
      executor.permit?.end(false);
      return decision.waitNs;
    }
    if (executor.permit?.take(() => this.dispatch()) === false) return Infinity;
    for (const sequence of ready) {
      const [job] = sequence.queue;
      if (!decision.batch.includes(job)) continue;
      const place = job.sequence as Sequence;
      if (place.start) sequence.states = this.#options.initial;
      job.hidden = [...this.#options.controls(place), ...sequence.states.values()];
      sequence.running = sequence.queue.shift();
    }
    executor.execute(decision.batch);
    return Infinity;
  }
}

/** The text "5" and the number 5 are different sequences. */
function keyOf({ id }: Sequence): string {
  return `${typeof id} ${id}`;
}
