import { performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { RoseError } from '../errors.ts';
import {
  At,
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
/** Between looks at what the worker is at. */
const LOOK_MS = 250;
/** So much of the time between two looks counts: more, and this process itself stood still. */
const MOST_LOOK_MS = 2_000;

export interface WorkerGrammarsOptions {
  /** How long a grammar may be compiled. Default: 30 s. */
  readonly compileMs?: number;
  /** How long a mask may take. Default: 10 s. */
  readonly maskMs?: number;
  /** The worker's module: one that behaves like `grammar.worker.ts`. */
  readonly worker?: URL;
}

/**
 * Grammars in a worker thread, which is started with the first one. The masks of a step are made while the step's rows
 * are computed. A worker that hangs or dies fails the answer that it was at and is replaced; the other answers go on in
 * the next one, which compiles their grammars again and takes their tokens.
 */
export class WorkerGrammars implements Grammars {
  readonly #data: Omit<GrammarWorkerData, 'at'>;
  readonly maskMs: number;
  readonly #compileMs: number;
  readonly #module: URL;
  #worker: Worker | undefined;
  #at: Int32Array = new Int32Array(2);
  #nextSession = 1;
  /** Every session, the oldest first. */
  readonly #sessions = new Map<number, WorkerMask>();
  /** Those of them that the worker has not opened yet. */
  #opening = 0;
  #timer: NodeJS.Timeout | undefined;
  #advanced: number[] = [];
  #tokens: number[] = [];

  constructor(data: Omit<GrammarWorkerData, 'at'>, options: WorkerGrammarsOptions = {}) {
    this.#data = data;
    this.maskMs = options.maskMs ?? MASK_MS;
    this.#compileMs = options.compileMs ?? COMPILE_MS;
    this.#module = options.worker ?? WORKER;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Whether a grammar is being compiled: masks asked for now have to wait for it. */
  get compiling(): boolean {
    return this.#opening > 0;
  }

  open(source: GrammarSource): Promise<TokenMask> {
    const session = this.#nextSession++;
    const mask = new WorkerMask(this, session, source, sessionWords(this.#data.vocabSize));
    this.#sessions.set(session, mask);
    this.#worker ??= this.#start();
    if (this.#sessions.size === 1) this.#watch();
    this.#begin(mask);
    return mask.opened;
  }

  advance(session: number, token: number): void {
    this.#advanced.push(session);
    this.#tokens.push(token);
  }

  flush(): void {
    if (this.#advanced.length === 0) return;
    this.#post({ kind: 'advance', sessions: this.#advanced, tokens: this.#tokens });
    this.#advanced = [];
    this.#tokens = [];
  }

  release(session: number): void {
    if (this.#forget(session) !== undefined) this.#post({ kind: 'close', session });
  }

  close(): void {
    this.#failAll(new RoseError('unavailable', 'the model was unloaded'));
  }

  /** A mask did not come in time: replace the worker if it hangs in one. Otherwise false. */
  replaceHanging(): boolean {
    const session = this.#busyWith();
    if (session === undefined || this.#sessions.get(session)?.opening !== false) return false;
    this.#replace(session, this.maskTooSlow());
    return true;
  }

  #post(message: ToGrammarWorker): void {
    this.#worker?.postMessage(message, []);
  }

  #begin({ session, source, tokens, words }: WorkerMask): void {
    this.#opening++;
    this.#post({ kind: 'open', session, source, tokens, words });
  }

  #forget(session: number): WorkerMask | undefined {
    const mask = this.#sessions.get(session);
    if (mask === undefined) return undefined;
    this.#sessions.delete(session);
    if (mask.opening) this.#opening--;
    if (this.#sessions.size === 0) clearInterval(this.#timer);
    return mask;
  }

  #start(): Worker {
    this.#at = new Int32Array(new SharedArrayBuffer(4 * Object.keys(At).length));
    const workerData: GrammarWorkerData = { ...this.#data, at: this.#at };
    const worker = new Worker(this.#module, { workerData, name: 'rose grammars' });
    const lost = (why: string): void => {
      if (this.#worker !== worker) return;
      const error = new RoseError('internal', `the grammar worker was lost: ${why}`);
      const session = this.#busyWith();
      // Where it cannot be told what it died of, the next one might die of it too.
      if (session === undefined) this.#failAll(error);
      else this.#replace(session, error);
    };
    worker.on('message', (message: FromGrammarWorker) => this.#worker === worker && this.#receive(message));
    worker.on('error', (cause) => lost(cause instanceof Error ? cause.message : String(cause)));
    worker.on('exit', (code) => lost(`it ended with code ${code}`));
    return worker;
  }

  #receive(message: FromGrammarWorker): void {
    if (message.kind === 'ready') return;
    const mask = this.#sessions.get(message.session);
    if (mask === undefined) return;
    if (message.kind === 'refused') {
      this.#forget(message.session);
      mask.fail(RoseError.deserialize(message.error));
    } else {
      this.#opening--;
      mask.open();
    }
  }

  /** The session that the worker is at; undefined: none. */
  #busyWith(): number | undefined {
    return Atomics.load(this.#at, At.ACTS) % 2 === 0 ? undefined : Atomics.load(this.#at, At.SESSION);
  }

  /** Looks whether the worker is at the same thing for too long. */
  #watch(): void {
    let [acts, busyMs, lookedAt] = [0, 0, performance.now()];
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      const session = this.#busyWith();
      const [before, now] = [acts, performance.now()];
      acts = Atomics.load(this.#at, At.ACTS);
      busyMs = acts === before ? busyMs + Math.min(now - lookedAt, MOST_LOOK_MS) : 0;
      lookedAt = now;
      if (session === undefined) return;
      const mask = this.#sessions.get(session);
      const compiles = mask?.opening ?? true;
      if (busyMs < (compiles ? this.#compileMs : this.maskMs)) return;
      this.#replace(session, compiles ? this.#compileTooSlow(mask?.source.param ?? '') : this.maskTooSlow());
    }, LOOK_MS);
    this.#timer.unref();
  }

  maskTooSlow(): RoseError {
    return new RoseError('internal', `a mask of the grammar took more than ${this.maskMs / 1000} s`);
  }

  #compileTooSlow(param: string): RoseError {
    const message = `${param}: the grammar takes longer than ${this.#compileMs / 1000} s to compile`;
    return new RoseError('invalid', message, { param });
  }

  /** The session fails; all others go on in a new worker. */
  #replace(session: number, error: RoseError): void {
    this.#forget(session)?.fail(error);
    this.#stop();
    if (this.#sessions.size === 0) return;
    this.#worker = this.#start();
    this.#watch();
    this.#opening = 0;
    for (const mask of this.#sessions.values()) {
      mask.restart(sessionWords(this.#data.vocabSize));
      this.#begin(mask);
    }
  }

  #failAll(error: RoseError): void {
    for (const session of [...this.#sessions.keys()]) this.#forget(session)?.fail(error);
    this.#stop();
  }

  /** What was not sent yet is known to the masks. */
  #stop(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    clearInterval(this.#timer);
    this.#advanced = [];
    this.#tokens = [];
    void worker?.terminate();
  }
}

/** A session's mask, in memory shared with the worker. */
class WorkerMask implements TokenMask {
  readonly session: number;
  readonly source: GrammarSource;
  /** The answer so far. */
  readonly tokens: number[] = [];
  words: Int32Array;
  fault: RoseError | undefined;
  /** Whether the worker still has to open it. */
  opening = true;
  /** Fulfilled when it is open for the first time. */
  readonly opened: Promise<TokenMask>;
  readonly #grammars: WorkerGrammars;
  #mask: Int32Array;
  #resolve: (mask: TokenMask) => void = () => {};
  #reject: (error: RoseError) => void = () => {};

  constructor(grammars: WorkerGrammars, session: number, source: GrammarSource, words: Int32Array) {
    this.#grammars = grammars;
    this.session = session;
    this.source = source;
    this.words = words;
    this.#mask = words.subarray(Word.MASK);
    this.opened = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get soon(): boolean {
    if (this.fault !== undefined || this.#made === this.#asked) return true;
    return !this.#grammars.compiling && this.words[Word.MICROSECONDS] < SLOW_MICROSECONDS;
  }

  wait(): Int32Array | undefined {
    for (let made = this.#made; made < this.#asked && this.fault === undefined; made = this.#made) {
      const timedOut = Atomics.wait(this.words, Word.MASKS, made, this.#grammars.maskMs) === 'timed-out';
      if (timedOut && !this.#grammars.replaceHanging()) this.fault ??= this.#grammars.maskTooSlow();
    }
    if (this.words[Word.BROKEN] !== 0)
      this.fault ??= new RoseError('internal', 'a token was drawn against the grammar');
    return this.fault === undefined ? this.#mask : undefined;
  }

  advance(token: number): void {
    this.tokens.push(token);
    this.#grammars.advance(this.session, token);
  }

  close(): void {
    this.#grammars.release(this.session);
  }

  open(): void {
    this.opening = false;
    this.#resolve(this);
  }

  fail(error: RoseError): void {
    this.fault ??= error;
    // Nobody hears it where the mask has been handed out: `fault` tells.
    this.#reject(error);
  }

  /** Another worker is to open it. The one before may still write what it was given. */
  restart(words: Int32Array): void {
    this.opening = true;
    this.words = words;
    this.#mask = words.subarray(Word.MASK);
  }

  /** One when it opens, one more for each token. */
  get #asked(): number {
    return this.tokens.length + 1;
  }

  get #made(): number {
    return Atomics.load(this.words, Word.MASKS);
  }
}
