/** A power of two. */
const FIRST_CAPACITY = 64;

/**
 * Things under way by their numbers. A Map that entries come to and leave all the time grows new tables again and again;
 * each old table refers to the next one, so that once V8 has found one worth keeping it keeps them all, with everything
 * that was in them, until it collects all garbage. Here the table stays the same (open addressing, linear probing).
 */
export class NumberMap<T> {
  #numbers: Float64Array<ArrayBuffer> = new Float64Array(FIRST_CAPACITY);
  #values: (T | undefined)[] = Array.from({ length: FIRST_CAPACITY });
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(number: number): T | undefined {
    return this.#values[this.#find(number)];
  }

  /** @param number a whole number that has no value yet */
  set(number: number, value: T): void {
    if (2 * (this.#size + 1) > this.#values.length) this.#grow();
    const at = this.#find(number);
    this.#numbers[at] = number;
    this.#values[at] = value;
    this.#size++;
  }

  delete(number: number): void {
    let hole = this.#find(number);
    if (this.#values[hole] === undefined) return;
    this.#size--;
    const last = this.#values.length - 1;
    // What was pushed on by the one that leaves moves back.
    for (let at = (hole + 1) & last; this.#values[at] !== undefined; at = (at + 1) & last) {
      const home = this.#numbers[at] & last;
      if (((at - home) & last) < ((at - hole) & last)) continue;
      this.#numbers[hole] = this.#numbers[at];
      this.#values[hole] = this.#values[at];
      hole = at;
    }
    this.#values[hole] = undefined;
  }

  values(): T[] {
    return this.#values.filter((value) => value !== undefined);
  }

  clear(): void {
    this.#values.fill(undefined);
    this.#size = 0;
  }

  /** Where a number's value is, or where it would go. */
  #find(number: number): number {
    const last = this.#values.length - 1;
    let at = number & last;
    while (this.#values[at] !== undefined && this.#numbers[at] !== number) at = (at + 1) & last;
    return at;
  }

  #grow(): void {
    const numbers = this.#numbers;
    const values = this.#values;
    this.#numbers = new Float64Array(2 * values.length);
    this.#values = Array.from({ length: 2 * values.length });
    this.#size = 0;
    values.forEach((value, i) => {
      if (value !== undefined) this.set(numbers[i], value);
    });
  }
}
