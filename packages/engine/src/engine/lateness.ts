/**
 * How late steps are: the distribution of the time that they took over the time predicted, older steps counting less and
 * less. The machine's own variation is in it, which no prediction knows, and what the prediction does not know of the work.
 */
export class Lateness {
  /** Decayed counts of steps by their ratio. */
  readonly #counts = new Float64Array(BUCKETS);
  #total = 0;

  observe(ratio: number): void {
    const bucket = Math.floor(Math.log(ratio / LOWEST) / Math.log(WIDTH));
    for (let i = 0; i < BUCKETS; i++) this.#counts[i] *= KEEP;
    this.#counts[Math.max(0, Math.min(BUCKETS - 1, bucket))]++;
    this.#total = KEEP * this.#total + 1;
  }

  /**
   * How many times longer than usual steps may be made, so that no more than `share` of them become longer than `limit`
   * times the usual (median) one that would not be so by themselves.
   */
  stretchWithin(limit: number, share: number): number {
    const bar = limit * this.#quantile(0.5);
    return bar / this.#quantile(Math.max(0, 1 - this.#beyond(bar) - share));
  }

  /** The share of steps of a higher ratio. */
  #beyond(ratio: number): number {
    let count = 0;
    for (let i = BUCKETS - 1; i >= 0 && RATIOS[i] > ratio; i--) count += this.#counts[i];
    return this.#total > 0 ? count / this.#total : 0;
  }

  /** The ratio that `share` of the steps do not exceed; 1 before any was observed. */
  #quantile(share: number): number {
    let left = share * this.#total;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.#counts[i];
      if (left < 0) return RATIOS[i];
    }
    return 1;
  }
}

/** Buckets of ratios from a quarter to eight, each 3 % wide; what is outside counts for the outermost. */
const LOWEST = 0.25;
const WIDTH = 1.03;
const BUCKETS = 118;
/** The middle of each. */
const RATIOS = Float64Array.from({ length: BUCKETS }, (_, i) => LOWEST * WIDTH ** (i + 0.5));
/** What is left of a step's weight after each further step: a half after 138, so that one in a hundred is seen. */
const KEEP = 0.995;
