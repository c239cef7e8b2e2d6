import { availableParallelism } from 'node:os';

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
/** Threads asleep at the barrier. */
const ASLEEP = 52;
/** Number of a thread that has ended before it was asked to; 0: none. */
const ENDED = 53;
const REASON_LENGTH = 54;
/** Parts of the command at hand that threads have taken. */
const TAKEN = 64;
/** Why the run failed, as UTF-8. */
const REASON = 80;
const REASON_WORDS = 256;
/** The command list begins here. Words that threads spin on lie on cache lines of their own. */
export const LIST: number = REASON + REASON_WORDS;
export const CONTROL_WORDS: number = 1 << 20;

/** Turns of the waiting loop (30 ns each) before a thread with nothing to do goes to sleep: less than a millisecond. */
const IDLE_TURNS = 20_000;
/** Turns at a barrier before a thread makes room for others; a command's shares end within microseconds of each other. */
const BUSY_TURNS = 4_000;
/** Where there are more threads than cores, who waits keeps others from working. */
const CROWDED_TURNS = 50;
/** A thread that waits so long at a barrier has lost its company. */
const LOST_MS = 60_000;
/** A sleeper looks around this often. */
const WAIT_MS = 100;

const pause: () => void = (Atomics as unknown as { pause?: () => void }).pause ?? ((): void => undefined);

/** One thread's view of the shared words. */
export class Barrier {
  readonly words: Int32Array;
  readonly #threads: number;
  readonly #lostMs: number;
  readonly #crowded: boolean;

  constructor(buffer: SharedArrayBuffer, threads: number, lostMs: number = LOST_MS) {
    this.words = new Int32Array(buffer);
    this.#threads = threads;
    this.#lostMs = lostMs;
    this.#crowded = threads > availableParallelism();
  }

  /**
   * Start a run over an arena: the list up to `length`, at least one command, is complete. The barrier behind the last
   * command of the run before is what keeps a thread from still reading these words: a run without a command would lack it.
   */
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
    const turns = this.#crowded ? CROWDED_TURNS : IDLE_TURNS;
    for (let turn = 0; Atomics.load(this.words, EPOCH) === epoch; turn++) {
      if (turn < turns) pause();
      else Atomics.wait(this.words, EPOCH, epoch);
    }
    return Atomics.load(this.words, STOP) === 1 ? undefined : Atomics.load(this.words, EPOCH);
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

  /** The run fails; the first thread to say so tells why. */
  fail(error: unknown): void {
    if (Atomics.compareExchange(this.words, FAILED, 0, 1) !== 0) return;
    const reason = error instanceof Error ? error.message : String(error);
    const bytes = Buffer.from(this.words.buffer, 4 * REASON, 4 * REASON_WORDS);
    this.words[REASON_LENGTH] = bytes.write(reason, 'utf8');
  }

  /** Why the run failed. To be read when all threads have met for the last time. */
  get reason(): string {
    return Buffer.from(this.words.buffer, 4 * REASON, this.words[REASON_LENGTH]).toString('utf8');
  }

  /** This thread ends though nobody asked it to. */
  leave(thread: number): void {
    Atomics.store(this.words, ENDED, thread);
    Atomics.notify(this.words, PHASE);
  }

  /** The number of the next part of the command at hand that nobody has taken yet. */
  take(): number {
    return Atomics.add(this.words, TAKEN, 1);
  }

  /** Wait until every thread is here. @throws Error when one of them will not come any more */
  meet(): void {
    if (this.#threads === 1) {
      this.words[TAKEN] = 0;
      return;
    }
    const phase = Atomics.load(this.words, PHASE);
    if (Atomics.add(this.words, ARRIVED, 1) === this.#threads - 1) {
      Atomics.store(this.words, ARRIVED, 0);
      Atomics.store(this.words, TAKEN, 0);
      Atomics.add(this.words, PHASE, 1);
      // A thread counts itself asleep before it looks at the phase for the last time: none is missed.
      if (Atomics.load(this.words, ASLEEP) > 0) Atomics.notify(this.words, PHASE);
      return;
    }
    const turns = this.#crowded ? CROWDED_TURNS : BUSY_TURNS;
    for (let turn = 1; Atomics.load(this.words, PHASE) === phase; turn++) {
      if (turn < turns) pause();
      else return this.#sleep(phase);
    }
  }

  /** The others may need this very core: leave it to them. */
  #sleep(phase: number): void {
    // Waits are counted, not time: where the whole process was stopped, or the machine slept, nobody is lost.
    let waits = 0;
    Atomics.add(this.words, ASLEEP, 1);
    for (;;) {
      // In this order: a thread may arrive and then end.
      const ended = Atomics.load(this.words, ENDED);
      if (Atomics.load(this.words, PHASE) !== phase) break;
      if (ended !== 0) throw new Error(`compute thread ${ended} has ended`);
      if (waits * WAIT_MS >= this.#lostMs) throw new Error('a compute thread does not answer: it is gone or stuck');
      if (Atomics.wait(this.words, PHASE, phase, WAIT_MS) === 'timed-out') waits++;
    }
    Atomics.sub(this.words, ASLEEP, 1);
  }
}
