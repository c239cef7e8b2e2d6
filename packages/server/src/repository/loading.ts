import { abortable } from '../backend/abortable.ts';

/** The first word about a load that goes on and on comes after so long, each further one after twice the time. */
const FIRST_WORD_MS = 5000;

/** A model's code may never return while it is loaded: that is said, and the load can be given up. */
export class Loading {
  readonly #controller: AbortController = new AbortController();
  readonly #name: string;
  readonly #warn: (message: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #look: (() => Promise<string>) | undefined;
  #seen: string | undefined;
  #outdated = false;
  /** What is done now, for the log. */
  stage = '';

  constructor(name: string, warn: (message: string) => void) {
    this.#name = name;
    this.#warn = warn;
    this.#wait(FIRST_WORD_MS, FIRST_WORD_MS);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What it waits for rejects with this reason. */
  giveUp(reason: Error): void {
    this.#controller.abort(reason);
  }

  /** @param look tells one state of the model's files from another; that it fails is a state, too */
  async watch(look: () => Promise<string>): Promise<void> {
    this.#look = () => look().catch(String);
    this.#seen = await this.#look();
  }

  /** Whoever changes the files of a model that is still loading does not wait for what it was. */
  async giveUpIfChanged(): Promise<void> {
    const seen = await this.#look?.();
    if (seen === this.#seen) return;
    this.#outdated = true;
    this.giveUp(new Error('its files changed while it was loading'));
  }

  /** It was given up because files changed; whether before or after they were read is not known. */
  get outdated(): boolean {
    return this.#outdated;
  }

  /** Waits for a part of the load, as long as that is not given up. */
  async part<T>(stage: string, work: Promise<T>, late?: (value: T) => unknown): Promise<T> {
    this.stage = stage;
    return abortable(work, this.signal, late);
  }

  /** It is over. */
  end(): void {
    clearTimeout(this.#timer);
  }

  #wait(ms: number, since: number): void {
    this.#timer = setTimeout(() => {
      this.#warn(`model '${this.#name}' is still loading after ${since / 1000} s: ${this.stage}`);
      this.#wait(since, 2 * since);
    }, ms);
    // A process that has nothing else to do may end.
    this.#timer.unref();
  }
}
