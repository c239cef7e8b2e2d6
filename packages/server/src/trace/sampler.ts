import type { TraceFile } from './file.ts';
import type { TraceSettings } from './settings.ts';
import { Trace } from './trace.ts';

/** Chooses requests by one group of settings, and hands their traces to the file. */
export class Sampler {
  readonly #settings: TraceSettings;
  readonly #file: TraceFile;
  #seen = 0;
  #count: number;
  /** Traces begun and not finished. */
  #open = 0;
  #held: string[] = [];
  #replaced = false;

  constructor(settings: TraceSettings, file: TraceFile) {
    this.#settings = settings;
    this.#file = file;
    this.#count = settings.count;
  }

  /** With the count of what is still to be traced. */
  get settings(): TraceSettings {
    return { ...this.#settings, count: this.#count };
  }

  /** A trace if this request is one to be traced. */
  sample(): Trace | undefined {
    const { level, rate } = this.#settings;
    if (level.length === 0 || this.#count === 0 || ++this.#seen % rate !== 0) return undefined;
    if (this.#count > 0) this.#count--;
    this.#open++;
    return new Trace(level, 0, (text) => this.#take(text));
  }

  /** Other settings are in its place: what it holds is written. */
  replace(): void {
    this.#replaced = true;
    this.#flush();
  }

  #take(text: string): void {
    this.#open--;
    const { count, logFrequency } = this.#settings;
    if (count < 0 && logFrequency === 0) {
      this.#file.append(text);
      return;
    }
    this.#held.push(text);
    const enough = logFrequency > 0 && this.#held.length >= logFrequency;
    const last = this.#count === 0 && this.#open === 0;
    if (enough || last) this.#writeNext();
    else if (this.#replaced) this.#flush();
  }

  #flush(): void {
    if (this.#held.length === 0) return;
    if (this.#settings.logFrequency > 0) this.#writeNext();
    else {
      this.#file.append(this.#held.join(','));
      this.#held = [];
    }
  }

  #writeNext(): void {
    this.#file.writeNext(this.#held.join(','));
    this.#held = [];
  }
}
