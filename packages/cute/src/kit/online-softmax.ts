import { combine, compare, newSlot, readSlot, result, select, typed, writeSlot, type Int } from '../atoms/record.ts';
import type { Slot } from '../ir/ir.ts';
import { shuffleXor } from '../trace/intrinsics.ts';
import { ex2 } from '../trace/math.ts';

/** A thread has two rows of a tile of scores: lane / 4 and that plus 8, as mma.sync and wgmma leave them. */
const ROWS = 2;
const CHAINS = 4;

/** What one more tile of scores makes of them and of what was summed before. */
export interface SoftmaxStep {
  /** 2^(score - largest so far), in the order of the scores. */
  readonly powers: Int[];
  /** Of each row: what sums over earlier tiles are multiplied by. */
  readonly rescale: readonly Int[];
  /** Of each row: the sum of this thread's powers. */
  readonly sums: readonly Int[];
}

/**
 * Softmax over rows whose scores come tile by tile (Milakov and Gimelshein 2018), in powers of two. Scores are a thread's
 * registers of an accumulator, 64 or 16 rows by a multiple of 8 columns: register v is of row v / 2 % 2; four neighbouring
 * lanes share a row. A score of -Infinity is not seen. A tile in which a row sees nothing changes nothing of the row's, bit
 * for bit: it rescales by exactly 1 and adds zeros.
 */
export class OnlineSoftmax {
  private readonly top: readonly Slot[];
  private readonly own: readonly Slot[];
  private readonly factor: Int;

  /** @param factor positive; powers are of factor * score */
  constructor(factor: Int) {
    this.factor = factor;
    this.top = Array.from({ length: ROWS }, (_, row) => newSlot('f32', `top${row}`));
    this.own = Array.from({ length: ROWS }, (_, row) => newSlot('f32', `sum${row}`));
    for (const slot of this.top) writeSlot(slot, -Infinity);
    for (const slot of this.own) writeSlot(slot, 0);
  }

  add(scores: readonly Int[]): SoftmaxStep {
    const powers: Int[] = [...scores];
    const rescale: Int[] = [];
    const sums: Int[] = [];
    for (let row = 0; row < ROWS; row++) {
      const mine = scores.map((_, v) => v).filter((v) => Math.floor(v / 2) % 2 === row);
      let largest = inChains(
        'max',
        mine.map((v) => scores[v]),
      );
      for (const distance of [1, 2]) largest = combine('max', largest, shuffleXor(largest, distance));
      const before = readSlot(this.top[row]);
      const top = combine('max', before, largest);
      writeSlot(this.top[row], top);
      // Where nothing was seen yet, -Infinity minus itself would be NaN.
      const base = select(compare('eq', top, -Infinity), 0, top);
      rescale[row] = ex2(combine('mul', combine('sub', before, base), this.factor));
      const shift = combine('sub', 0, combine('mul', base, this.factor));
      for (const v of mine) powers[v] = ex2(fused(scores[v], this.factor, shift));
      sums[row] = inChains(
        'add',
        mine.map((v) => powers[v]),
      );
      writeSlot(this.own[row], fused(readSlot(this.own[row]), rescale[row], sums[row]));
    }
    return { powers, rescale, sums };
  }

  /** Of each row: the largest factor * score, -Infinity where none was seen, and the sum of its powers over all lanes. */
  rows(): { readonly top: Int; readonly sum: Int }[] {
    return this.top.map((slot, row) => {
      let sum = readSlot(this.own[row]);
      for (const distance of [1, 2]) sum = combine('add', sum, shuffleXor(sum, distance));
      return { top: combine('mul', readSlot(slot), this.factor), sum };
    });
  }
}

/** Value i with i + 4, i + 8, ..., then the four: chains that a thread works on side by side. */
function inChains(op: string, values: readonly Int[]): Int {
  const chains = values.slice(0, CHAINS);
  for (const [i, value] of values.entries()) {
    if (i >= CHAINS) chains[i % CHAINS] = combine(op, chains[i % CHAINS], value);
  }
  return chains.reduce((a, b) => combine(op, a, b));
}

function fused(a: Int, b: Int, c: Int): Int {
  return result('fma', 'f32', { args: [typed(a, 'f32'), typed(b, 'f32'), typed(c, 'f32')] });
}
