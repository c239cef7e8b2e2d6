import type { Batch } from '../../engine/batch.ts';
import type { StepWords } from './step-words.ts';

/** Entries of a history that stay on the GPU; those behind them go there in every step. */
export const RESIDENT = 4096;
/** Words of a change: which entry, its token, and how often it has been. */
export const CHANGE_WORDS = 3;

/** Entries that a history has room for at first; a power of two. */
const FIRST_ROOM = 64;
/** Spreads tokens over places (Knuth's multiplicative hashing). */
const SPREAD = 0x9e3779b1;

/**
 * A sequence's different tokens in the order of their first occurrence, and how often each is in the answer. Typed arrays and a
 * hash table with linear probing: a step looks one token of each sequence up, and a Map takes ten times as long.
 */
class History {
  tokens = new Int32Array(FIRST_ROOM);
  times = new Int32Array(FIRST_ROOM);
  count = 0;
  /** Of each token, 1 + its entry's number; 0: free. Twice as long as there is room for entries. */
  #table = new Int32Array(2 * FIRST_ROOM);

  clear(): void {
    this.count = 0;
    this.#table.fill(0);
  }

  /** Gives the token's place. */
  add(token: number, times: number): number {
    const slot = this.#slotOf(token);
    const known = this.#table[slot] - 1;
    if (known >= 0) {
      this.times[known] += times;
      return known;
    }
    const place = this.count++;
    if (place === this.tokens.length) {
      [this.tokens, this.times] = [longer(this.tokens), longer(this.times)];
      this.#table = new Int32Array(2 * this.tokens.length);
      for (let i = 0; i < place; i++) this.#table[this.#slotOf(this.tokens[i])] = i + 1;
      this.#table[this.#slotOf(token)] = place + 1;
    } else this.#table[slot] = place + 1;
    this.tokens[place] = token;
    this.times[place] = times;
    return place;
  }

  /** Where the token is, or is to be put. */
  #slotOf(token: number): number {
    const table = this.#table;
    const mask = table.length - 1;
    // The upper half of the product is what is spread well.
    let slot = (Math.imul(token, SPREAD) >>> 8) & mask;
    while (table[slot] !== 0 && this.tokens[table[slot] - 1] !== token) slot = (slot + 1) & mask;
    return slot;
  }
}

/**
 * What penalties look back at: counted here, and kept on the GPU, which is told of what changes. A step that draws one token
 * a sequence changes one entry of each, however long they are.
 */
export class Histories {
  /** Changes of this step, CHANGE_WORDS each. */
  changes: Int32Array<ArrayBuffer> = new Int32Array(CHANGE_WORDS * 256);
  changed = 0;
  readonly #resident: number;
  readonly #histories: History[];
  readonly #touched: number[] = [];

  constructor(count: number, resident: number) {
    this.#resident = resident;
    this.#histories = Array.from({ length: count }, () => new History());
  }

  begin(): void {
    this.changed = 0;
  }

  /** Take in what the batch tells of output `o`'s sequence. */
  tell(batch: Batch, o: number): void {
    const slot = batch.historySlot[o];
    const history = this.#histories[slot];
    let position = batch.historyFrom[o];
    const anew = position === 0;
    if (anew) history.clear();
    const touched = this.#touched;
    touched.length = 0;
    for (let i = batch.historyStart[o]; i < batch.historyStart[o + 1]; i++) {
      const place = history.add(batch.historyTokens[i], position++ >= batch.historyPrompt[o] ? 1 : 0);
      // Each entry is changed once; rarely is there more than one token.
      if (!anew && !touched.includes(place)) touched.push(place);
    }
    if (anew) for (let place = 0; place < Math.min(history.count, this.#resident); place++) this.#change(slot, place);
    else for (const place of touched) if (place < this.#resident) this.#change(slot, place);
  }

  /** Entries of a history that are on the GPU. */
  resident(slot: number): number {
    return Math.min(this.#histories[slot].count, this.#resident);
  }

  /** First word of a history on the GPU. */
  at(slot: number): number {
    return 2 * slot * this.#resident;
  }

  /** Write the entries that are not kept on the GPU; gives how many. */
  writeMore(slot: number, block: StepWords): { readonly at: number; readonly count: number } {
    const { count, tokens, times } = this.#histories[slot];
    const more = Math.max(0, count - this.#resident);
    if (more === 0) return NONE;
    const at = block.reserve(2 * more);
    for (let i = 0; i < more; i++) {
      block.words[at + 2 * i] = tokens[this.#resident + i];
      block.words[at + 2 * i + 1] = times[this.#resident + i];
    }
    return { at, count: more };
  }

  #change(slot: number, place: number): void {
    const { tokens, times } = this.#histories[slot];
    if (CHANGE_WORDS * (this.changed + 1) > this.changes.length) this.changes = longer(this.changes);
    const at = CHANGE_WORDS * this.changed++;
    this.changes[at] = slot * this.#resident + place;
    this.changes[at + 1] = tokens[place];
    this.changes[at + 2] = times[place];
  }
}

const NONE = { at: 0, count: 0 } as const;

function longer(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const twice = new Int32Array(2 * array.length);
  twice.set(array);
  return twice;
}
