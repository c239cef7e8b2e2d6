import { RoseError } from '@rose/engine';
import { now, type ExecuteTimes } from '../backend/protocol.ts';
import type { FailureReason, ModelStatistics, BatchTimes } from '../statistics/statistics.ts';
import type { ModelRequest, ModelResponse, Sequence } from '../triton/model.ts';
import type { Tensor } from '../triton/tensor.ts';
import { Channel } from './channel.ts';

/** Who has the job now. */
export interface JobHolder {
  /** The job was cancelled. */
  cancelled(job: Job): void;
  /** A response of it was taken. */
  taken(job: Job): void;
}

let last = 0;

/** A request on its way through a model, and its times in nanoseconds. */
export class Job {
  readonly number: number = ++last;
  readonly request: ModelRequest;
  /** Rows; 1 where the model has no batch dimension. */
  readonly rows: number;
  readonly responses: Channel<ModelResponse>;
  readonly arrived: number = now();
  /** Its place in a sequence, as it is now. */
  sequence: Sequence | undefined;
  /** Inputs that the client does not give: controls and states of its sequence. */
  hidden: readonly Tensor[] = [];
  /** By their inputs: states that the model has set for the next request of the sequence. */
  states: ReadonlyMap<string, Tensor> | undefined;
  /** When it was handed to an instance for the first time; undefined: it was not yet. */
  started: number | undefined;
  /** Of its first execution. */
  first: ExecuteTimes | undefined;
  /** Responses sent so far. */
  sent = 0;
  /** When the latest response came, or execution began. */
  lastEvent = 0;
  ended = false;
  failed = false;
  #waits = true;
  holder: JobHolder | undefined;
  readonly #statistics: ModelStatistics;
  readonly #onAbort: () => void;

  constructor(request: ModelRequest, rows: number, statistics: ModelStatistics) {
    this.request = request;
    this.sequence = request.sequence;
    this.rows = rows;
    this.#statistics = statistics;
    statistics.pending++;
    const cancel = (): void => this.#cancel();
    this.responses = new Channel(() => this.holder?.taken(this), cancel);
    this.#onAbort = cancel;
    if (request.signal.aborted) cancel();
    else request.signal.addEventListener('abort', cancel);
  }

  /** Whether no instance has it. */
  get waits(): boolean {
    return this.#waits;
  }

  start(at: number): void {
    this.started ??= at;
    this.lastEvent ||= at;
    this.#waits = false;
    this.#statistics.pending--;
  }

  /** It was executed. Where that happens again and again, the first time ends its time in the queue. */
  executed(times: ExecuteTimes): void {
    this.first ??= times;
    this.started = this.first.begun;
  }

  /** It waits again, as if it had not been handed over. */
  putBack(): void {
    if (this.first === undefined) this.started = undefined;
    this.wait();
  }

  /** It waits to be executed again. */
  wait(): void {
    this.#waits = true;
    this.#statistics.pending++;
  }

  /** Hand a response to whoever reads them. */
  respond(response: ModelResponse): void {
    if (this.sent++ === 0) this.#statistics.firstResponseMs.add((now() - this.arrived) / 1e6);
    this.responses.push(response);
  }

  succeed(times: BatchTimes): void {
    if (!this.#end()) return;
    const { arrived, started = arrived } = this;
    this.#statistics.succeed(this.rows, now() - arrived, started - arrived, times);
    this.request.onTimes?.(times);
    this.request.trace?.computed(arrived, started, times);
    this.responses.end();
  }

  fail(error: unknown, reason: FailureReason): void {
    if (!this.#end()) return;
    this.failed = true;
    this.#statistics.failed(now() - this.arrived, reason);
    this.responses.fail(error);
  }

  #cancel(): void {
    const { holder } = this;
    if (this.ended) return;
    if (this.started !== undefined && this.sent > 0) {
      this.#statistics.responded(this.sent, 'cancel', now() - this.lastEvent, 0);
    }
    this.fail(new RoseError('cancelled', 'the request was cancelled'), 'CANCELED');
    holder?.cancelled(this);
  }

  /** False: it has ended before. */
  #end(): boolean {
    if (this.ended) return false;
    this.ended = true;
    if (this.#waits) this.#statistics.pending--;
    this.request.signal.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
