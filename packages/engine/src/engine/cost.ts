/**
 * What a step costs, learned from the steps that were run: milliseconds = a + b rows + c reads, where `reads` is the
 * sum over all rows of the positions each one looks back at (keys and values read). The three are fitted by least
 * squares over relative errors; older steps count less and less, so the fit follows a machine that changes its pace.
 */
export class StepCost {
  /** Decayed sums of x xT and x y, x = (1, rows, reads) in the units below, weighted to relative errors. */
  readonly #products = new Float64Array(9);
  readonly #targets = new Float64Array(3);
  readonly #x = new Float64Array(3);
  readonly #fit = new Float64Array(3);
  readonly #system = new Float64Array(12);
  #fresh = true;
  steps = 0;

  observe(rows: number, reads: number, milliseconds: number): void {
    if (!(milliseconds > 0)) return;
    const x = this.#features(rows, reads);
    const weight = 1 / (milliseconds * milliseconds);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        this.#products[3 * i + j] = KEEP * this.#products[3 * i + j] + weight * x[i] * x[j];
      }
      this.#targets[i] = KEEP * this.#targets[i] + weight * x[i] * milliseconds;
    }
    this.steps++;
    this.#fresh = false;
  }

  /** Milliseconds that a step is expected to take; 0 before any was observed. */
  predict(rows: number, reads: number): number {
    if (!this.#fresh) this.#solve();
    const x = this.#features(rows, reads);
    return this.#fit[0] * x[0] + this.#fit[1] * x[1] + this.#fit[2] * x[2];
  }

  /**
   * How many rows of a prompt, standing at positions from `from` on, fit beside `rows` and `reads` into `milliseconds`.
   * At most `most`, at least 1.
   */
  rowsWithin(milliseconds: number, rows: number, reads: number, from: number, most: number): number {
    let low = 1;
    let high = most;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const fits = this.predict(rows + middle, reads + readsOf(from, middle)) <= milliseconds;
      if (fits) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #features(rows: number, reads: number): Float64Array {
    this.#x[0] = 1;
    this.#x[1] = rows / ROWS;
    this.#x[2] = reads / READS;
    return this.#x;
  }

  /** No part of a step takes negative time: a part that comes out so is left out, and the others are fitted again. */
  #solve(): void {
    this.#fresh = true;
    const used = [true, true, true];
    for (;;) {
      this.#eliminate(used);
      let worst = -1;
      for (let i = 0; i < 3; i++) {
        if (used[i] && this.#fit[i] < 0 && (worst < 0 || this.#fit[i] < this.#fit[worst])) worst = i;
      }
      if (worst < 0) return;
      used[worst] = false;
    }
  }

  /** Gauss-Jordan elimination of the normal equations over the features in use, with a touch of ridge. */
  #eliminate(used: readonly boolean[]): void {
    const a = this.#system;
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) a[4 * i + j] = used[i] && used[j] ? this.#products[3 * i + j] : 0;
      a[4 * i + i] = used[i] ? a[4 * i + i] * (1 + RIDGE) + Number.MIN_VALUE : 1;
      a[4 * i + 3] = used[i] ? this.#targets[i] : 0;
    }
    for (let i = 0; i < 3; i++) {
      // Positive definite, so the diagonal serves as pivot.
      const pivot = a[4 * i + i];
      for (let j = 0; j < 4; j++) a[4 * i + j] = pivot > 1e-300 ? a[4 * i + j] / pivot : 0;
      for (let k = 0; k < 3; k++) {
        if (k === i) continue;
        const factor = a[4 * k + i];
        for (let j = 0; j < 4; j++) a[4 * k + j] -= factor * a[4 * i + j];
      }
    }
    for (let i = 0; i < 3; i++) this.#fit[i] = a[4 * i + 3];
  }
}

/** Positions that `count` rows from position `from` on look at, themselves included. */
export function readsOf(from: number, count: number): number {
  return count * from + (count * (count + 1)) / 2;
}

/** What is left of a step's weight after each further step: a half after 69. */
const KEEP = 0.99;
const RIDGE = 1e-6;
/** Units that bring the features to a like size. */
const ROWS = 64;
const READS = 65_536;
