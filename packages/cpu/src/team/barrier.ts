/**
 * The words that threads share. A run begins when `epoch` changes; after each command all threads meet at the barrier
 * (`arrived` counts them, `phase` moves when the last one is there).
 */
const EPOCH = 0;
const ARRIVED = 16;
const PHASE = 32;
const FAILED = 48;
const STOP = 49;
const ARENA = 50;
const LENGTH = 51;
/** The command list begins here. Words that threads spin on lie on cache lines of their own. */
export const LIST = 64;
export const CONTROL_WORDS: number = 1 << 20;

/** Turns of the waiting loop before a thread with nothing to do goes to sleep: about a millisecond. */
const IDLE_TURNS = 20_000;
/** Turns at a barrier before a thread makes room for others; a command's shares end within microseconds of each other. */
const BUSY_TURNS = 4_000;
/** A thread that waits so long at a barrier has lost its company. */
const LOST_MS = 60_000;

const pause: () => void = (Atomics as unknown as { pause?: () => void }).pause ?? ((): void => undefined);

/** One thread's view of the shared words. */
export class Barrier {
  readonly words: Int32Array;
  readonly #threads: number;

  constructor(buffer: SharedArrayBuffer, threads: number) {
    this.words = new Int32Array(buffer);
    this.#threads = threads;
  }

  /** Start a run over an arena: the list up to `length` is complete. */
  begin(arena: number, length: number): void {
    this.words[ARENA] = arena;
    this.words[LENGTH] = length;
    this.words[FAILED] = 0;
    Atomics.add(this.words, EPOCH, 1);
    Atomics.notify(this.words, EPOCH);
  }

  /** Ask every thread to end. */
  stop(): void {
    Atomics.store(this.words, STOP, 1);
    Atomics.add(this.words, EPOCH, 1);
    Atomics.notify(this.words, EPOCH);
  }

  /** Wait for a run after `epoch`; spins for a while, then sleeps. Returns its epoch, or undefined when asked to end. */
  next(epoch: number): number | undefined {
    for (let turn = 0; Atomics.load(this.words, EPOCH) === epoch; turn++) {
      if (turn < IDLE_TURNS) pause();
      else Atomics.wait(this.words, EPOCH, epoch);
    }
    return Atomics.load(this.words, STOP) === 1 ? undefined : Atomics.load(this.words, EPOCH);
  }

  get epoch(): number {
    return Atomics.load(this.words, EPOCH);
  }

  get arena(): number {
    return this.words[ARENA];
  }

  get length(): number {
    return this.words[LENGTH];
  }

  get failed(): boolean {
    return Atomics.load(this.words, FAILED) !== 0;
  }

  fail(): void {
    Atomics.store(this.words, FAILED, 1);
  }

  /** Wait until every thread is here. */
  meet(): void {
    if (this.#threads === 1) return;
    const phase = Atomics.load(this.words, PHASE);
    if (Atomics.add(this.words, ARRIVED, 1) === this.#threads - 1) {
      Atomics.store(this.words, ARRIVED, 0);
      Atomics.add(this.words, PHASE, 1);
      return;
    }
    let since = 0;
    for (let turn = 1; Atomics.load(this.words, PHASE) === phase; turn++) {
      if (turn < BUSY_TURNS) {
        pause();
        continue;
      }
      // The others may need this very core: leave it to them for a moment.
      Atomics.wait(this.words, PHASE, phase, 0.05);
      since ||= Date.now();
      if (Date.now() - since > LOST_MS) throw new Error('a compute thread does not answer: it has ended or is stuck');
    }
  }
}
