import type { Job } from '../scheduling/job.ts';
import type { Instance } from './instance.ts';

/** Told when an instance is gone, why, and which jobs it had not begun. */
export type OnDown = (instance: Instance, reason: string, waiting: readonly Job[]) => void;

/** How long to wait before the next attempt, after so many that failed; the last one stands for all further ones. */
const RETRY_MS = [0, 1000, 2000, 5000, 10_000, 30_000];

/** An instance that is started again when its thread fails. */
export class SupervisedInstance {
  readonly #start: (signal: AbortSignal) => Promise<Instance>;
  readonly #onUp: (instance: Instance) => void;
  readonly #onDown: OnDown;
  #instance: Instance | undefined;
  #retry: NodeJS.Timeout | undefined;
  readonly #closing: AbortController = new AbortController();
  #starting: Promise<void> | undefined;
  /** Why there is no instance now. */
  reason = '';

  private constructor(
    start: (signal: AbortSignal) => Promise<Instance>,
    onUp: (instance: Instance) => void,
    onDown: OnDown,
  ) {
    this.#start = start;
    this.#onUp = onUp;
    this.#onDown = onDown;
  }

  /**
   * The first start must succeed: a model that cannot initialize is not loaded.
   * @param signal ends the first start
   */
  static async open(
    start: (signal: AbortSignal) => Promise<Instance>,
    onUp: (instance: Instance) => void,
    onDown: OnDown,
    signal: AbortSignal,
  ): Promise<SupervisedInstance> {
    const supervised = new SupervisedInstance(start, onUp, onDown);
    supervised.#up(await start(signal));
    return supervised;
  }

  get instance(): Instance | undefined {
    return this.#instance;
  }

  /**
   * @param reason what requests fail with that it still works on
   * @returns whether its thread has ended
   */
  async close(reason: Error): Promise<boolean> {
    this.#closing.abort(reason);
    clearTimeout(this.#retry);
    await this.#starting;
    const ended = (await this.#instance?.close(reason)) ?? true;
    this.#instance = undefined;
    return ended;
  }

  #up(instance: Instance): void {
    this.#instance = instance;
    this.reason = '';
    instance.watch(
      () => this.#onUp(instance),
      (reason, waiting) => {
        this.#instance = undefined;
        this.reason = reason;
        this.#onDown(instance, reason, waiting);
        this.#restart(0);
      },
    );
    this.#onUp(instance);
  }

  #restart(attempt: number): void {
    const { signal } = this.#closing;
    if (signal.aborted) return;
    const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
    this.#retry = setTimeout(() => {
      this.#starting = this.#start(signal)
        .then((instance) => this.#up(instance))
        .catch((error: unknown) => {
          this.reason = `it failed and cannot start again: ${error instanceof Error ? error.message : String(error)}`;
          this.#restart(attempt + 1);
        })
        .finally(() => (this.#starting = undefined));
    }, wait);
  }
}
