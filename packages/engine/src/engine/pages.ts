import { assert } from '../errors.ts';

/**
 * The pages of one layer group, or the state slots of a model: numbers from 0 to `size - 1`, each free or held by so
 * many holders. What the device keeps under a number is none of its business.
 */
export class PagePool {
  readonly size: number;
  /** Holders of each page; 0: free. */
  readonly #holders: Int32Array;
  readonly #free: Int32Array;
  #available: number;

  constructor(size: number) {
    this.size = size;
    this.#holders = new Int32Array(size);
    this.#available = size;
    // Taken from the end: the first page handed out is page 0.
    this.#free = new Int32Array(size);
    for (let i = 0; i < size; i++) this.#free[i] = size - 1 - i;
  }

  get available(): number {
    return this.#available;
  }

  /** A free page for one holder, or -1. */
  take(): number {
    if (this.#available === 0) return -1;
    const page = this.#free[--this.#available];
    this.#holders[page] = 1;
    return page;
  }

  holders(page: number): number {
    return this.#holders[page];
  }

  /** One more holder of a page that is held. */
  share(page: number): void {
    assert(this.#holders[page] > 0, `page ${page} is free and cannot be shared`);
    this.#holders[page]++;
  }

  /** One holder less; the last one frees the page. */
  release(page: number): void {
    assert(this.#holders[page] > 0, `page ${page} was given back twice`);
    if (--this.#holders[page] === 0) this.#free[this.#available++] = page;
  }

  /**
   * The integrity check: every page is held exactly as often as somebody says it is, and all others are free, once.
   * @param counts holders of each page, as the caller counted them
   */
  check(counts: Int32Array): void {
    assert(counts.length === this.size, 'a count for each page');
    let free = 0;
    for (let page = 0; page < this.size; page++) {
      const [held, counted] = [this.#holders[page], counts[page]];
      assert(held === counted, `page ${page} has ${held} holders, but ${counted} hold it`);
      if (held === 0) free++;
    }
    assert(free === this.#available, `${free - this.#available} pages were lost`);
    const seen = new Uint8Array(this.size);
    for (let i = 0; i < this.#available; i++) {
      assert(seen[this.#free[i]] === 0, `page ${this.#free[i]} is free twice`);
      seen[this.#free[i]] = 1;
    }
  }
}
