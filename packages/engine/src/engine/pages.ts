import { assert } from '../errors.ts';

/**
 * The KV pages of one model. A sequence takes all pages it can come to need when it is admitted, so that it never runs
 * out midway.
 */
export class PagePool {
  readonly size: number;
  readonly #free: Int32Array;
  #count: number;

  constructor(size: number) {
    this.size = size;
    this.#count = size;
    // Taken from the end: the first page handed out is page 0.
    this.#free = Int32Array.from({ length: size }, (_, i) => size - 1 - i);
  }

  get available(): number {
    return this.#count;
  }

  /** `count` pages, or undefined if there are not so many. */
  take(count: number): Int32Array | undefined {
    if (count > this.#count) return undefined;
    const pages = new Int32Array(count);
    for (let i = 0; i < count; i++) pages[i] = this.#free[--this.#count];
    return pages;
  }

  giveBack(pages: Int32Array): void {
    assert(this.#count + pages.length <= this.size, 'more pages came back than there are');
    for (let i = pages.length - 1; i >= 0; i--) this.#free[this.#count++] = pages[i];
  }

  /** Every page must be back, once: called whenever the engine is idle. */
  checkIdle(): void {
    assert(this.#count === this.size, `${this.size - this.#count} pages were lost`);
    const seen = new Uint8Array(this.size);
    for (const page of this.#free) {
      assert(seen[page] === 0, `page ${page} came back twice`);
      seen[page] = 1;
    }
  }
}
