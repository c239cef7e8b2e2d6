import type { Worker } from 'node:worker_threads';
import { RoseError } from '../errors.ts';
import type { FromTextWorker, TextCall, TextFacts, TextResult } from './protocol.ts';
import type {
  EncodedInput,
  KeepSpecial,
  MessagesPrompt,
  Prompt,
  TextPool,
  TokenizerConfiguration,
  TruncateOptions,
} from './text.ts';

const closedError = (): RoseError => new RoseError('unavailable', 'the tokenizer was closed');

interface Job {
  readonly call: TextCall;
  readonly resolve: (value: TextResult) => void;
  readonly reject: (error: RoseError) => void;
}

/**
 * Text work in worker threads. Calls wait in one queue and go to the first worker that is free, in the order they came,
 * one at a time to each: a long text holds up those behind it only while every worker is busy with one. A worker that
 * dies takes its call with it and is replaced.
 */
export class WorkerPool implements TextPool {
  readonly #start: () => Worker;
  readonly #queue: Job[] = [];
  readonly #idle: Worker[] = [];
  /** Workers that live, with the call each is at. */
  readonly #workers = new Map<Worker, Job | undefined>();
  #closed = false;

  private constructor(start: () => Worker) {
    this.#start = start;
  }

  /** Starts the workers and waits for them. Throws what the first one to fail says. */
  static async open(start: () => Worker, count: number): Promise<{ pool: WorkerPool; facts: TextFacts }> {
    const pool = new WorkerPool(start);
    try {
      const [facts] = await Promise.all(Array.from({ length: count }, () => pool.#add()));
      return { pool, facts };
    } catch (error) {
      await pool.close();
      throw error;
    }
  }

  encodePrompt(prompt: Prompt): Promise<Int32Array> {
    return this.#call({ method: 'encodePrompt', args: [prompt] });
  }

  render(prompt: MessagesPrompt): Promise<string> {
    return this.#call({ method: 'render', args: [prompt] });
  }

  encodeTexts(texts: readonly string[], options: TruncateOptions): Promise<EncodedInput[]> {
    return this.#call({ method: 'encodeTexts', args: [texts, options] });
  }

  encodePairs(
    pairs: readonly { readonly query: string; readonly text: string }[],
    options: TruncateOptions,
  ): Promise<EncodedInput[]> {
    return this.#call({ method: 'encodePairs', args: [pairs, options] });
  }

  decode(tokens: Int32Array, options: { readonly keepSpecial?: KeepSpecial } = {}): Promise<string> {
    return this.#call({ method: 'decode', args: [tokens, options] });
  }

  tokenNames(tokens: Int32Array): Promise<string[]> {
    return this.#call({ method: 'tokenNames', args: [tokens] });
  }

  configuration(): Promise<TokenizerConfiguration> {
    return this.#call({ method: 'configuration', args: [] });
  }

  /** Ends the workers; calls under way or waiting fail with `unavailable`. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#failWaiting(closedError());
    await Promise.all([...this.#workers.keys()].map((worker) => worker.terminate()));
  }

  #call<T extends TextResult>(call: TextCall): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(closedError());
      this.#queue.push({ call, resolve: resolve as Job['resolve'], reject });
      // Every worker was lost while it started: try again, now that there is work.
      if (this.#workers.size === 0) this.#replace();
      this.#next();
    });
  }

  #next(): void {
    while (this.#queue.length > 0 && this.#idle.length > 0) {
      const worker = this.#idle.pop();
      const job = this.#queue.shift();
      if (worker === undefined || job === undefined) return;
      try {
        worker.postMessage(job.call, []);
        this.#workers.set(worker, job);
      } catch (cause) {
        this.#idle.push(worker);
        const why = cause instanceof Error ? cause.message : String(cause);
        job.reject(new RoseError('invalid', `the request cannot be sent to the tokenizer: ${why}`, { cause }));
      }
    }
  }

  /** Starts a worker; resolves when it is ready. */
  #add(): Promise<TextFacts> {
    return new Promise((resolve, reject) => {
      const worker = this.#start();
      this.#workers.set(worker, undefined);
      let ready = false;
      let fault: RoseError | undefined;
      worker.on('message', (message: FromTextWorker) => {
        if (message.kind === 'ready') {
          ready = true;
          resolve(message);
        } else if (ready) {
          settle(this.#workers.get(worker), message);
        } else {
          // Its exit tells the rest.
          if (message.kind === 'failed') fault = RoseError.deserialize(message.error);
          void worker.terminate();
          return;
        }
        this.#workers.set(worker, undefined);
        this.#idle.push(worker);
        this.#next();
      });
      worker.on('error', (cause) => {
        const why = cause instanceof Error ? cause.message : String(cause);
        fault = new RoseError('internal', `the tokenizer's worker was lost: ${why}`, { cause });
      });
      worker.on('exit', (code) => {
        const job = this.#workers.get(worker);
        this.#workers.delete(worker);
        const at = this.#idle.indexOf(worker);
        if (at >= 0) this.#idle.splice(at, 1);
        fault ??= new RoseError('internal', `the tokenizer's worker was lost: it exited with code ${code}`);
        const error = this.#closed ? closedError() : fault;
        job?.reject(error);
        reject(error);
        if (ready && !this.#closed) this.#replace();
      });
    });
  }

  #replace(): void {
    this.#add().catch((cause: unknown) => {
      if (this.#workers.size === 0) this.#failWaiting(RoseError.from(cause));
    });
  }

  #failWaiting(error: RoseError): void {
    for (const job of this.#queue.splice(0)) job.reject(error);
  }
}

function settle(job: Job | undefined, message: Exclude<FromTextWorker, { kind: 'ready' }>): void {
  if (message.kind === 'failed') job?.reject(RoseError.deserialize(message.error));
  else job?.resolve(message.value);
}
