import { Worker } from 'node:worker_threads';
import { RoseError } from '../errors.ts';
import {
  sessionWords,
  Word,
  type FromGrammarWorker,
  type GrammarWorkerData,
  type ToGrammarWorker,
} from './protocol.ts';
import type { GrammarSource } from './structure.ts';

/** Which tokens an answer may go on with: the engine's side of a grammar. */
export interface TokenMask {
  /**
   * A bit for each token, 32 a word. Waits for the mask of the last token, if it is not there yet; undefined if it will
   * never be: `fault` says why.
   */
  wait(): Int32Array | undefined;
  readonly fault: RoseError | undefined;
  /** Whether `wait` will not hold up a step: the mask is there, or as good as there. */
  readonly soon: boolean;
  /** A token was drawn: the next mask is for what follows it. */
  advance(token: number): void;
  close(): void;
}

/** The grammars of one model. */
export interface Grammars {
  /**
   * Begin an answer.
   * @throws RoseError `invalid` for what is no grammar
   */
  open(source: GrammarSource): Promise<TokenMask>;
  /** Send what `advance` told since the last time. */
  flush(): void;
  close(): void;
}

const WORKER: URL = new URL(
  import.meta.url.endsWith('.ts') ? './grammar.worker.ts' : './grammar.worker.js',
  import.meta.url,
);
/** A grammar that takes longer is refused. */
const COMPILE_MS = 30_000;
/** A mask that takes longer means that the worker hangs. */
const MASK_MS = 10_000;
/** Answers whose masks take longer do not hold up steps. */
const SLOW_MICROSECONDS = 2_000;

interface Opening {
  readonly mask: WorkerMask;
  readonly param: string;
  readonly resolve: (mask: TokenMask) => void;
  readonly reject: (error: RoseError) => void;
}

/**
 * Grammars in a worker thread, which is started with the first one. The masks of a step are made while the step's rows
 * are computed. A worker that hangs or dies fails its answers, and the next grammar gets a new one.
 */
export class WorkerGrammars implements Grammars {
  readonly #data: GrammarWorkerData;
  readonly #compileMs: number;
  #worker: Worker | undefined;
  #nextSession = 1;
  readonly #opening = new Map<number, Opening>();
  readonly #open = new Map<number, WorkerMask>();
  #timer: NodeJS.Timeout | undefined;
  #sessions: number[] = [];
  #tokens: number[] = [];

  /** @param compileMs how long a grammar may be compiled */
  constructor(data: GrammarWorkerData, compileMs: number = COMPILE_MS) {
    this.#data = data;
    this.#compileMs = compileMs;
  }

  get sessions(): number {
    return this.#open.size + this.#opening.size;
  }

  /** Whether a grammar is being compiled: masks asked for now have to wait for it. */
  get compiling(): boolean {
    return this.#opening.size > 0;
  }

  open(source: GrammarSource): Promise<TokenMask> {
    this.#worker ??= this.#start();
    const session = this.#nextSession++;
    const mask = new WorkerMask(this, session, sessionWords(this.#data.vocabSize));
    return new Promise((resolve, reject) => {
      this.#opening.set(session, { mask, param: source.param, resolve, reject });
      // Those that wait do not give the one that is compiled more time.
      if (this.#opening.size === 1) this.#watch();
      this.#post({ kind: 'open', session, source, words: mask.words });
    });
  }

  advance(session: number, token: number): void {
    this.#sessions.push(session);
    this.#tokens.push(token);
  }

  flush(): void {
    if (this.#sessions.length === 0) return;
    this.#post({ kind: 'advance', sessions: this.#sessions, tokens: this.#tokens });
    this.#sessions = [];
    this.#tokens = [];
  }

  release(session: number): void {
    if (this.#open.delete(session)) this.#post({ kind: 'close', session });
  }

  close(): void {
    this.#lose(new RoseError('unavailable', 'the model was unloaded'));
  }

  #post(message: ToGrammarWorker): void {
    this.#worker?.postMessage(message, []);
  }

  #start(): Worker {
    const worker = new Worker(WORKER, { workerData: this.#data, name: 'rose grammars' });
    worker.on('message', (message: FromGrammarWorker) => this.#worker === worker && this.#receive(message));
    worker.on('error', (cause) => {
      const why = cause instanceof Error ? cause.message : String(cause);
      if (this.#worker === worker) this.#lose(new RoseError('internal', `the grammar worker was lost: ${why}`));
    });
    worker.on('exit', (code) => {
      if (this.#worker === worker) this.#lose(new RoseError('internal', `the grammar worker ended with code ${code}`));
    });
    return worker;
  }

  #receive(message: FromGrammarWorker): void {
    if (message.kind === 'ready') return;
    const opening = this.#opening.get(message.session);
    if (opening === undefined) return;
    this.#opening.delete(message.session);
    this.#watch();
    if (message.kind === 'refused') opening.reject(RoseError.deserialize(message.error));
    else {
      this.#open.set(message.session, opening.mask);
      opening.resolve(opening.mask);
    }
  }

  /** The one that is compiled has so much time. */
  #watch(): void {
    clearTimeout(this.#timer);
    if (this.#opening.size === 0) return;
    this.#timer = setTimeout(() => {
      const [first] = this.#opening.keys();
      const opening = this.#opening.get(first);
      this.#opening.delete(first);
      if (opening !== undefined) {
        const { param } = opening;
        const message = `${param}: the grammar takes longer than ${this.#compileMs / 1000} s to compile`;
        opening.reject(new RoseError('invalid', message, { param }));
      }
      this.#lose(new RoseError('unavailable', 'another request held the grammar worker up: try again'));
    }, this.#compileMs);
    this.#timer.unref();
  }

  #lose(error: RoseError): void {
    const worker = this.#worker;
    this.#worker = undefined;
    clearTimeout(this.#timer);
    for (const { reject } of this.#opening.values()) reject(error);
    for (const mask of this.#open.values()) mask.fault ??= error;
    this.#opening.clear();
    this.#open.clear();
    this.#sessions = [];
    this.#tokens = [];
    void worker?.terminate();
  }
}

/** A session's mask, in memory shared with the worker. */
class WorkerMask implements TokenMask {
  readonly words: Int32Array;
  fault: RoseError | undefined;
  readonly #grammars: WorkerGrammars;
  readonly #session: number;
  readonly #mask: Int32Array;
  /** Masks asked for so far. */
  #asked = 1;

  constructor(grammars: WorkerGrammars, session: number, words: Int32Array) {
    this.words = words;
    this.#grammars = grammars;
    this.#session = session;
    this.#mask = words.subarray(Word.MASK);
  }

  get soon(): boolean {
    if (this.fault !== undefined || this.#made === this.#asked) return true;
    return !this.#grammars.compiling && this.words[Word.MICROSECONDS] < SLOW_MICROSECONDS;
  }

  wait(): Int32Array | undefined {
    for (let made = this.#made; made < this.#asked && this.fault === undefined; made = this.#made) {
      if (Atomics.wait(this.words, Word.MASKS, made, MASK_MS) === 'timed-out') {
        this.fault = new RoseError('internal', `a mask of the grammar took more than ${MASK_MS / 1000} s`);
      }
    }
    if (this.words[Word.BROKEN] !== 0)
      this.fault ??= new RoseError('internal', 'a token was drawn against the grammar');
    return this.fault === undefined ? this.#mask : undefined;
  }

  advance(token: number): void {
    this.#asked++;
    this.#grammars.advance(this.#session, token);
  }

  close(): void {
    this.#grammars.release(this.#session);
  }

  get #made(): number {
    return Atomics.load(this.words, Word.MASKS);
  }
}
