import { Worker } from 'node:worker_threads';
import { RoseError } from '@rose/engine';
import type { Job, JobHolder } from '../scheduling/job.ts';
import type { Permit } from '../scheduling/rate-limiter.ts';
import type { Executor } from '../scheduling/scheduler.ts';
import { TritonError, tritonStatus } from '../triton/errors.ts';
import type { ModelResponse } from '../triton/model.ts';
import { tensorFromBytes, type Tensor } from '../triton/tensor.ts';
import { abortable } from './abortable.ts';
import { codeOf, statusOf } from './codes.ts';
import { gaveAway, readOutcome, readTimes, writeError, writeRequest, writeResponse } from './exchange.ts';
import { NumberMap } from './number-map.ts';
import { PacketReader, PacketWriter, transfersOf, wordsOf, type Packet, type WireTensor } from './packet.ts';
import {
  now,
  type ExecuteTimes,
  type FromInstance,
  type InstanceData,
  type ToInstance,
  type WireCall,
  type WireOutcome,
  type WireResponse,
} from './protocol.ts';

/** What an instance needs of the rest of the server. */
export interface InstanceSurroundings {
  /** Ask another model on behalf of this one. */
  call(call: WireCall, signal: AbortSignal): AsyncIterable<ModelResponse>;
  /** Check states that a request sets, and keep them for its sequence. */
  keep(job: Job, states: readonly Tensor[]): void;
  /** Check a response against the configuration. */
  accept(job: Job, response: ModelResponse): void;
  /** A batch was executed. */
  executed(rows: number, times: ExecuteTimes, ended: number): void;
  readonly decoupled: boolean;
  /** Needed for every batch; undefined: nothing is. */
  readonly permit: Permit | undefined;
  /** Batches that may wait in an instance behind the one it executes. */
  readonly ahead: number;
}

const entry: URL = new URL(
  import.meta.url.endsWith('.ts') ? './instance.worker.ts' : './instance.worker.js',
  import.meta.url,
);

/** Responses that are reported as taken together. */
const TAKEN_TOGETHER = 8;

/** Time for `finalize`. */
const FINALIZE_MS = 10_000;
/** A thread that is told to end does so at once, unless it is in a call of the system's that nothing interrupts. */
const END_MS = 2000;

/** Loads the model's class and lets it complete its configuration. Rejects with the signal's reason. */
export async function completeByModel(
  data: Omit<InstanceData, 'complete'>,
  signal: AbortSignal,
): Promise<InstanceData['config']> {
  const worker = spawn({ ...data, complete: true });
  try {
    const message = await firstMessage(worker, signal);
    if (message.kind === 'completed') return message.config;
    throw loadError(message);
  } finally {
    await end(worker);
  }
}

/** One object of a model's class in a thread of its own. It executes one batch after the other. */
export class Instance implements Executor, JobHolder {
  readonly #worker: Worker;
  readonly #surroundings: InstanceSurroundings;
  /** Requests in the thread that have not ended. */
  readonly #jobs: NumberMap<{ job: Job; untold: number; again: boolean }> = new NumberMap();
  readonly #calls: Map<number, AbortController> = new Map();
  /** Handed over and not executed yet, in their order. */
  #batches: (readonly Job[])[] = [];
  /** Batches that are not handed over yet. */
  readonly #outbox: PacketWriter;
  #outgoing = 0;
  /** For a message of its own. */
  readonly #writer: PacketWriter = new PacketWriter();
  #onIdle: () => void = () => {};
  #onLost: ((reason: string, waiting: readonly Job[]) => void) | undefined;
  #closed: (() => void) | undefined;
  /** That its packets consist of. */
  readonly #words: readonly string[];

  /** Resolves when the model has initialized; rejects with why it has not, or with the signal's reason. */
  static async start(
    data: Omit<InstanceData, 'complete'>,
    surroundings: InstanceSurroundings,
    signal: AbortSignal,
  ): Promise<Instance> {
    signal.throwIfAborted();
    const instance = new Instance(spawn({ ...data, complete: false }), wordsOf(data.config), surroundings);
    try {
      await abortable(instance.#started, signal);
    } catch (error) {
      await end(instance.#worker);
      throw error;
    }
    return instance;
  }

  readonly #started: Promise<void>;

  private constructor(worker: Worker, words: readonly string[], surroundings: InstanceSurroundings) {
    this.#worker = worker;
    this.#words = words;
    this.#outbox = new PacketWriter(words);
    this.#surroundings = surroundings;
    const started = Promise.withResolvers<void>();
    this.#started = started.promise;
    // Where the start is given up nobody waits for it.
    started.promise.catch(() => {});
    let reason = '';
    worker.on('message', (message: FromInstance) => {
      try {
        if (message.kind === 'ready') started.resolve();
        else if (message.kind === 'failed') {
          started.reject(loadError(message));
          this.#closed?.();
        } else this.#receive(message);
      } catch (error) {
        // A model's code has the same port: what it, or a library of it, posts there must not be the server's end.
        reason ||= `its thread sent a message that is none of Rose's: ${RoseError.from(error).message}`;
        void worker.terminate();
      }
    });
    worker.on('error', (error: unknown) => (reason = error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => {
      reason ||= `its thread ended with code ${code}`;
      started.reject(new RoseError('invalid', reason));
      this.#lose(reason);
    });
  }

  get permit(): Permit | undefined {
    return this.#surroundings.permit;
  }

  get busy(): boolean {
    return this.#batches.length > this.#surroundings.ahead;
  }

  /** Whether any request is in the thread, be it one whose responses are still to come. */
  get empty(): boolean {
    return this.#jobs.size === 0 && this.#batches.length === 0;
  }

  /**
   * @param onIdle called each time the instance can take a batch or has answered a request to its end
   * @param onLost called when the thread has ended, with the jobs that it had not begun
   */
  watch(onIdle: () => void, onLost: (reason: string, waiting: readonly Job[]) => void): void {
    this.#onIdle = onIdle;
    this.#onLost = onLost;
  }

  execute(batch: readonly Job[]): void {
    const started = now();
    this.#outbox.add(batch.length);
    for (const job of batch) {
      job.start(started);
      job.holder = this;
      this.#jobs.set(job.number, { job, untold: 0, again: false });
      writeRequest(this.#outbox, job);
    }
    this.#batches.push(batch);
    // A message costs more than a small request: those of one turn of the event loop go together.
    if (++this.#outgoing === 1) queueMicrotask(() => this.#sendOut());
  }

  cancelled(job: Job): void {
    this.#post({ kind: 'cancel', request: job.number });
    if (this.#surroundings.decoupled) this.#jobs.delete(job.number);
    this.#onIdle();
  }

  taken(job: Job): void {
    const entry = this.#jobs.get(job.number);
    if (entry === undefined || ++entry.untold < TAKEN_TOGETHER) return;
    this.#post({ kind: 'taken', request: job.number, count: entry.untold });
    entry.untold = 0;
  }

  /**
   * Let the model finalize, then end its thread. A thread that still works on requests is ended as it is.
   * @param reason what those requests fail with
   * @returns whether the thread has ended
   */
  async close(reason: Error): Promise<boolean> {
    this.#onLost = () => {};
    if (this.empty) {
      let limit: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#closed = resolve;
        limit = setTimeout(resolve, FINALIZE_MS);
        this.#worker.once('exit', () => resolve());
        this.#post({ kind: 'close' });
      });
      clearTimeout(limit);
    } else {
      for (const { job } of this.#jobs.values()) job.fail(reason, 'OTHER');
      this.#lose(reason.message);
    }
    return end(this.#worker);
  }

  #sendOut(): void {
    this.#post({ kind: 'execute', batches: this.#outgoing, packet: this.#outbox.take() });
    this.#outgoing = 0;
  }

  #post(message: ToInstance): void {
    this.#worker.postMessage(message, 'packet' in message ? transfersOf(message.packet) : []);
  }

  #receive(message: FromInstance): void {
    switch (message.kind) {
      case 'executed':
        this.#executed(message.batches, new PacketReader(message.packet, this.#words));
        this.permit?.end(true);
        this.#onIdle();
        return;
      case 'response':
        this.#response(message.request, readOutcome(new PacketReader(message.packet, this.#words)));
        return;
      case 'update':
        this.#update(message.request, message.again, new PacketReader(message.packet, this.#words));
        return;
      case 'end':
        this.#end(message.request);
        return;
      case 'call':
        void this.#call(message);
        return;
      case 'cancelCall':
        this.#calls.get(message.call)?.abort();
        return;
      case 'closed':
        this.#closed?.();
        return;
      default:
        throw new RoseError('invalid', 'it has no kind that Rose knows');
    }
  }

  #executed(batches: number, reader: PacketReader): void {
    const ended = now();
    for (let i = 0; i < batches; i++) {
      const times = readTimes(reader);
      const batch = this.#batches.shift() ?? [];
      const rows = batch.reduce((sum, job) => sum + job.rows, 0);
      const answered = reader.number() > 0;
      this.#surroundings.executed(rows, times, answered ? ended : times.computeEnd);
      for (const job of batch) {
        job.executed(times);
        const outcome = answered ? readOutcome(reader) : undefined;
        if (this.#jobs.get(job.number)?.again === true && !(outcome && 'error' in outcome)) this.#again(job);
        else if (outcome !== undefined) this.#finish(job, outcome, times);
      }
    }
  }

  #update(number: number, again: boolean, reader: PacketReader): void {
    const entry = this.#jobs.get(number);
    if (entry === undefined) return;
    const { job } = entry;
    entry.again = again;
    try {
      this.#surroundings.keep(job, reader.tensors().map(received));
    } catch (error) {
      job.fail(error, 'BACKEND');
    }
  }

  /** Whoever has its sequence has it executed again. */
  #again(job: Job): void {
    this.#jobs.delete(job.number);
    if (!job.ended) job.wait();
  }

  #finish(job: Job, outcome: WireOutcome, { computeEnd }: ExecuteTimes): void {
    this.#jobs.delete(job.number);
    if (!this.#answer(job, outcome)) return;
    const { begun, computeStart } = job.first as ExecuteTimes;
    job.succeed({
      computeInput: computeStart - begun,
      computeInfer: computeEnd - computeStart,
      computeOutput: now() - computeEnd,
    });
  }

  #response(number: number, outcome: WireOutcome): void {
    const job = this.#jobs.get(number)?.job;
    if (job !== undefined && !this.#answer(job, outcome)) {
      this.#jobs.delete(number);
      this.#onIdle();
    }
  }

  #end(number: number): void {
    const entry = this.#jobs.get(number);
    if (entry === undefined) return;
    this.#jobs.delete(number);
    const { job } = entry;
    const started = job.started as number;
    // A request may end before `execute` returns.
    const computeStart = job.first?.computeStart ?? started;
    job.succeed({ computeInput: computeStart - started, computeInfer: now() - computeStart, computeOutput: 0 });
    this.#onIdle();
  }

  /** Hand an outcome on. False: the job has ended with it. */
  #answer(job: Job, outcome: WireOutcome): boolean {
    if (job.ended) return false;
    if ('error' in outcome) {
      const { code, message } = outcome.error;
      job.fail(new TritonError(statusOf(code), message), code === 'CANCELLED' ? 'CANCELED' : 'BACKEND');
      return false;
    }
    try {
      const response = modelResponse(outcome.response);
      this.#surroundings.accept(job, response);
      job.respond(response);
      return true;
    } catch (error) {
      job.fail(error, 'BACKEND');
      return false;
    }
  }

  async #call({ call, packet, ...rest }: { packet: Packet } & Omit<WireCall, 'inputs'>): Promise<void> {
    const controller = new AbortController();
    this.#calls.set(call, controller);
    const answer = (): void => this.#post({ kind: 'answer', call, packet: this.#writer.take() });
    try {
      const inputs = new PacketReader(packet).tensors();
      for await (const response of this.#surroundings.call({ ...rest, call, inputs }, controller.signal)) {
        if (controller.signal.aborted) break;
        writeResponse(this.#writer, response);
        answer();
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      writeError(this.#writer, { code: codeOf(tritonStatus(error)), message });
      answer();
    } finally {
      this.#calls.delete(call);
      this.#post({ kind: 'answered', call });
    }
  }

  #lose(reason: string): void {
    for (const controller of this.#calls.values()) controller.abort();
    // The first batch is the one that was being executed; the others can go to whoever comes next, if all of them is here.
    const waiting = this.#batches.slice(1).flatMap((batch) => batch.filter((job) => !gaveAway(job)));
    this.#batches = [];
    for (const { number } of waiting) this.#jobs.delete(number);
    const lost = this.#jobs.values();
    this.#jobs.clear();
    const error = new TritonError(500, `the instance of the model failed while it worked on the request: ${reason}`);
    for (const { job } of lost) job.fail(error, 'BACKEND');
    this.permit?.end(false);
    this.#onLost?.(
      reason,
      waiting.filter((job) => !job.ended),
    );
  }
}

function spawn(data: InstanceData): Worker {
  // Flags of the server's own process are not for models.
  return new Worker(entry, { name: `model ${data.name}`, workerData: data, execArgv: [] });
}

async function firstMessage(worker: Worker, signal: AbortSignal): Promise<FromInstance> {
  const first = new Promise<FromInstance>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', (error: unknown) => reject(RoseError.from(error)));
    worker.once('exit', (code) => reject(new RoseError('invalid', `its thread ended with code ${code}`)));
  });
  return abortable(first, signal);
}

/** Ends a thread, whatever it does. False: it is in a call that nothing interrupts, and ends when that returns. */
async function end(worker: Worker): Promise<boolean> {
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => (limit = setTimeout(() => resolve(false), END_MS)));
  const ended = await Promise.race([worker.terminate().then(() => true), late]);
  clearTimeout(limit);
  return ended;
}

function loadError(message: FromInstance): RoseError {
  return new RoseError('invalid', message.kind === 'failed' ? message.error.message : `unexpected ${message.kind}`);
}

function modelResponse({ outputs, parameters }: WireResponse): ModelResponse {
  return {
    outputs: outputs.map(received),
    owned: true,
    ...(parameters && { parameters: new Map(Object.entries(parameters)) }),
  };
}

function received({ name, datatype, shape, data }: WireTensor): Tensor {
  return tensorFromBytes(name, datatype, shape, data, '');
}
