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
  /** 1 where the prefix tree is one of the holders. */
  readonly #inTree: Uint8Array;
  #kept = 0;

  constructor(size: number) {
    this.size = size;
    this.#holders = new Int32Array(size);
    this.#available = size;
    this.#inTree = new Uint8Array(size);
    // Taken from the end: the first page handed out is page 0.
    this.#free = new Int32Array(size);
    for (let i = 0; i < size; i++) this.#free[i] = size - 1 - i;
  }

  get available(): number {
    return this.#available;
  }

  /** Pages that nobody but the prefix tree holds: they come free when room is needed. */
  get kept(): number {
    return this.#kept;
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
    if (this.#holders[page]++ === 1) this.#kept -= this.#inTree[page];
  }

  /** The prefix tree holds the page from now on, beside others. */
  keep(page: number): void {
    assert(this.#inTree[page] === 0, `page ${page} is in the prefix tree twice`);
    this.share(page);
    this.#inTree[page] = 1;
  }

  /** The prefix tree lets go of the page. */
  drop(page: number): void {
    assert(this.#inTree[page] === 1, `page ${page} is not in the prefix tree`);
    if (this.#holders[page] === 1) this.#kept--;
    this.#inTree[page] = 0;
    this.release(page);
  }

  /** One holder less; the last one frees the page. */
  release(page: number): void {
    assert(this.#holders[page] > 0, `page ${page} was given back twice`);
    const left = --this.#holders[page];
    if (left === 1) this.#kept += this.#inTree[page];
    if (left > 0) return;
    assert(this.#inTree[page] === 0, `page ${page} is in the prefix tree and was given back`);
    this.#free[this.#available++] = page;
  }

  /**
   * The integrity check: every page is held exactly as often as somebody says it is, and all others are free, once.
   * @param counts holders of each page, as the caller counted them
   * @param inTree 1 for those that are in the prefix tree
   */
  check(counts: Int32Array, inTree: Uint8Array = new Uint8Array(this.size)): void {
    assert(counts.length === this.size, 'a count for each page');
    let free = 0;
    let kept = 0;
    for (let page = 0; page < this.size; page++) {
      const [held, counted] = [this.#holders[page], counts[page]];
      assert(held === counted, `page ${page} has ${held} holders, but ${counted} hold it`);
      assert(this.#inTree[page] === inTree[page], `whether page ${page} is in the prefix tree is not known`);
      if (held === 0) free++;
      if (held === 1) kept += inTree[page];
    }
    assert(free === this.#available, `${free - this.#available} pages were lost`);
    assert(kept === this.#kept, `${this.#kept} pages are held by the prefix tree alone, it is said, but ${kept} are`);
    const seen = new Uint8Array(this.size);
    for (let i = 0; i < this.#available; i++) {
      assert(seen[this.#free[i]] === 0, `page ${this.#free[i]} is free twice`);
      seen[this.#free[i]] = 1;
    }
  }
}
