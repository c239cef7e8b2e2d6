/** How often values fell into buckets, as Prometheus' histograms count them. */
export class Distribution {
  /** Upper bounds, ascending; what is above the last counts only in `count`. */
  readonly bounds: readonly number[];
  /** Values of each bucket alone. */
  readonly counts: number[];
  count = 0;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = bounds.map(() => 0);
  }

  add(value: number): void {
    this.count++;
    this.sum += value;
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    if (bucket >= 0) this.counts[bucket]++;
  }
}

/** How many of the latest values quantiles are taken from. */
const KEPT = 1024;

/** Quantiles of the latest values. */
export class Recent {
  readonly #values: Float64Array = new Float64Array(KEPT);
  count = 0;
  sum = 0;

  add(value: number): void {
    this.#values[this.count++ % KEPT] = value;
    this.sum += value;
  }

  /** The values at these shares of the sorted latest ones (nearest rank); NaN where there are none yet. */
  quantiles(shares: readonly number[]): number[] {
    const sorted = this.#values.slice(0, Math.min(this.count, KEPT)).sort();
    return shares.map((share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN);
  }
}
