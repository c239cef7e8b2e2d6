import { Lateness } from './lateness.ts';

/** What a step carries, as far as the time it takes depends on it. */
export class StepWork {
  rows = 0;
  /** Rows whose logits are computed. */
  logits = 0;
  /** Positions whose keys and values are fetched: of each sequence, all up to its last row, once. */
  contexts = 0;
  /** Positions that rows look at, each row for itself. */
  reads = 0;

  clear(): void {
    this.rows = 0;
    this.logits = 0;
    this.contexts = 0;
    this.reads = 0;
  }

  /** `count` rows of a sequence from position `from` on. */
  add(from: number, count: number): void {
    this.rows += count;
    this.contexts += from + count;
    this.reads += readsOf(from, count);
  }
}

/**
 * What a step costs, learned from the steps that were run: milliseconds are a constant and a part for each field of
 * `StepWork`. A row alone in its sequence and a row of a chunk differ by what they share: the chunk's rows are computed
 * against keys and values that are fetched once.
 *
 * The rates are fitted by least squares over relative errors; older steps count less and less, so the fit follows a
 * machine that changes its pace. What the steps that still count do not tell stays as it was fitted last, at the pace of
 * now: so a thousand steps of answers alone do not make it forget what prompts cost.
 */
export class StepCost {
  /** How much later than predicted steps are. */
  readonly lateness: Lateness = new Lateness();
  steps = 0;
  /** Milliseconds for one of each feature, x = (1, the fields of StepWork), as fitted; and what the fit began with. */
  readonly #rates = new Float64Array(SIZE);
  readonly #before = new Float64Array(SIZE);
  /** Decayed sums of x xT and x y over the steps, weighted to relative errors. */
  readonly #products = new Float64Array(SIZE * SIZE);
  readonly #targets = new Float64Array(SIZE);
  readonly #x = new Float64Array(SIZE);
  readonly #used = new Uint8Array(SIZE);
  readonly #system = new Float64Array(SIZE * (SIZE + 1));

  observe(work: StepWork, milliseconds: number): void {
    if (!(milliseconds > 0)) return;
    const predicted = this.predict(work);
    if (this.steps++ >= LEARNING) this.lateness.observe(milliseconds / predicted);
    const x = this.#x;
    const weight = 1 / (milliseconds * milliseconds);
    for (let i = 0; i < SIZE; i++) {
      for (let j = 0; j < SIZE; j++) {
        this.#products[SIZE * i + j] = KEEP * this.#products[SIZE * i + j] + weight * x[i] * x[j];
      }
      this.#targets[i] = KEEP * this.#targets[i] + weight * x[i] * milliseconds;
      // Any part of the first step may have taken its time.
      if (this.steps === 1 && x[i] > 0) this.#rates[i] = milliseconds / x[i] / SIZE;
    }
    this.#solve();
  }

  /** Milliseconds that a step is expected to take; 0 before any was observed. */
  predict(work: StepWork): number {
    return this.predictWith(work, 0, 0, 0);
  }

  /** The same with `count` rows more of a sequence that stands at position `from`, of which `logits` want their logits. */
  predictWith(work: StepWork, from: number, count: number, logits: number): number {
    const x = this.#x;
    x[0] = 1;
    x[1] = work.rows + count;
    x[2] = work.logits + logits;
    x[3] = work.contexts + (count > 0 ? from + count : 0);
    x[4] = work.reads + readsOf(from, count);
    let sum = 0;
    for (let i = 0; i < SIZE; i++) sum += this.#rates[i] * x[i];
    return sum;
  }

  /**
   * How many rows of a prompt, standing at positions from `from` on, fit beside `work` into `milliseconds`. At most `most`,
   * at least 1.
   * @param logits whether each of them wants its logits
   */
  rowsWithin(milliseconds: number, work: StepWork, from: number, most: number, logits: boolean): number {
    let low = 1;
    let high = most;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.predictWith(work, from, middle, logits ? middle : 0) <= milliseconds) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** No part of a step takes negative time: one that comes out so is left out, and the others are fitted again. */
  #solve(): void {
    const pace = this.#pace();
    for (let i = 0; i < SIZE; i++) this.#before[i] = pace * this.#rates[i];
    this.#used.fill(1);
    for (;;) {
      this.#eliminate();
      let worst = -1;
      for (let i = 0; i < SIZE; i++) {
        if (this.#rates[i] < 0 && (worst < 0 || this.#rates[i] < this.#rates[worst])) worst = i;
      }
      if (worst < 0) return;
      this.#used[worst] = 0;
    }
  }

  /** By how much all rates together would have to change to fit best. */
  #pace(): number {
    let expected = 0;
    let seen = 0;
    for (let i = 0; i < SIZE; i++) {
      seen += this.#rates[i] * this.#targets[i];
      for (let j = 0; j < SIZE; j++) expected += this.#rates[i] * this.#rates[j] * this.#products[SIZE * i + j];
    }
    return expected > 0 ? seen / expected : 1;
  }

  /** Gauss-Jordan elimination of the normal equations over the features in use, with a ridge around the rates before. */
  #eliminate(): void {
    const a = this.#system;
    const width = SIZE + 1;
    for (let i = 0; i < SIZE; i++) {
      const used = this.#used[i] === 1;
      const diagonal = this.#products[(SIZE + 1) * i];
      for (let j = 0; j < SIZE; j++) {
        a[width * i + j] = used && this.#used[j] === 1 ? this.#products[SIZE * i + j] : 0;
      }
      const known = used && diagonal > 0;
      a[width * i + i] = known ? diagonal * (1 + RIDGE) : 1;
      a[width * i + SIZE] = known ? this.#targets[i] + RIDGE * diagonal * this.#before[i] : 0;
    }
    for (let i = 0; i < SIZE; i++) {
      // Positive definite, so the diagonal serves as pivot.
      const pivot = 1 / a[width * i + i];
      for (let j = i; j < width; j++) a[width * i + j] *= pivot;
      for (let k = 0; k < SIZE; k++) {
        const factor = a[width * k + i];
        if (k === i || factor === 0) continue;
        for (let j = i; j < width; j++) a[width * k + j] -= factor * a[width * i + j];
      }
    }
    for (let i = 0; i < SIZE; i++) this.#rates[i] = a[width * i + SIZE];
  }
}

/** Positions that `count` rows from position `from` on look at, themselves included. */
export function readsOf(from: number, count: number): number {
  return count * from + (count * (count + 1)) / 2;
}

/** A constant, and the fields of StepWork. */
const SIZE = 5;
/** Steps before a prediction is worth comparing. */
const LEARNING = 16;
/** What is left of a step's weight after each further step: a half after 69. */
const KEEP = 0.99;
/** Weight of the rates as they were, beside that of the steps. */
const RIDGE = 0.01;
