import { ex2, f32, fma, packWord, rcp, widenWord, type i32, type TypeName, type Word } from '@rose/cute';

/** What the attention kernels share: which keys a query sees, scores, and operands of mma.sync m16n8k16. */

/** Elements of a head that attention is built for. */
export const HEADS: readonly number[] = [32, 64, 96, 128, 192, 256];

export const MMA = 'm16n8k16';

/** What decides how elements are held: the type of queries and results, and that of keys and values. */
export interface Elements {
  readonly type: 'bf16' | 'f16';
  readonly cache: 'same' | 'e4m3';
}

export function cacheType({ type, cache }: { readonly type: TypeName; readonly cache: Elements['cache'] }): TypeName {
  return cache === 'same' ? type : cache;
}

/**
 * A score in powers of two of a capped one: cap * tanh(score / cap) (Gemma 2) times log2 e. tanh(x) = 1 - 2 / (1 + e^2x),
 * which is exact to about 2^-21; PTX's own tanh is to 2^-11, and a cap of 50 would make 2.4 % of that.
 */
export function cappedScore(product: f32, twice: f32, cap: f32): f32 {
  'use gpu';
  return cap * fma(rcp(ex2(product * twice) + 1), f32(-2), f32(1));
}

/**
 * Elements of a block of 16 of a head, in the order in which an operand's words have them: lane quarter q has words of the
 * elements `[0]` and `[1]` and of `[2]` and `[3]`. Elements of 8 bits come four to a word, so that a quarter has neighbours.
 */
export function quarterElements(elements: Elements, q: i32): readonly [i32, i32] {
  'use gpu';
  return elements.cache === 'same' ? [2 * q, 2 * q + 8] : [4 * q, 4 * q + 2];
}

/** Four words of keys, two for each of two mma of 16-bit elements; or of 8-bit ones, which are four mma's. */
export function keyWords(words: readonly Word[], elements: Elements): Word[][] {
  'use gpu';
  if (elements.cache === 'same') return [words.slice(0, 2), words.slice(2)];
  return words.map((word) => {
    const [a, b, c, d] = widenWord(word, 'e4m3');
    return [packWord(a, b, elements.type), packWord(c, d, elements.type)];
  });
}

/** Four words of values that were loaded transposed, likewise. */
export function valueWords(words: readonly Word[], elements: Elements): Word[][] {
  'use gpu';
  if (elements.cache === 'same') return [words.slice(0, 2), words.slice(2)];
  return [0, 2].flatMap((first) => {
    const [low, high] = [widenWord(words[first], 'e4m3'), widenWord(words[first + 1], 'e4m3')];
    return [0, 1].map((i) => [
      packWord(low[i], low[2 + i], elements.type),
      packWord(high[i], high[2 + i], elements.type),
    ]);
  });
}

/**
 * Keys from `from` up to but not `to` that a query at a position sees: all before it and its own, or those of its whole
 * sequence; with a window those nearer than it.
 */
export function seenBy(
  position: number,
  window: number = Infinity,
  mask: 'causal' | 'bidirectional' = 'causal',
  length: number = Infinity,
): readonly [from: number, to: number] {
  const to = mask === 'causal' ? position + 1 : Math.min(length, position + window);
  return [Math.max(0, position - window + 1), to];
}

/** One query's softmax over keys, in float64. */
export interface RowOfAttention {
  /** The largest score in powers of two; -Infinity where nothing is seen. */
  readonly top: number;
  /** Sum of 2^(score - top). */
  readonly sum: number;
  /** Sum of 2^(score - top) times the value, and of magnitudes. */
  readonly o: Float64Array;
  readonly magnitude: Float64Array;
}

/** Keys `from` to `to`; `scale` and `cap` as the kernels have them. */
export function attendRow(
  query: Float64Array,
  key: (at: number) => Float64Array,
  value: (at: number) => Float64Array,
  [from, to]: readonly [number, number],
  scale: number,
  cap: number | undefined,
): RowOfAttention {
  const scores: number[] = [];
  for (let at = from; at < to; at++) {
    const row = key(at);
    const product = query.reduce((sum, e, i) => sum + e * row[i], 0) * scale;
    scores.push((cap === undefined ? product : cap * Math.tanh(product / cap)) * Math.LOG2E);
  }
  const top = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const o = new Float64Array(query.length);
  const magnitude = new Float64Array(query.length);
  let sum = 0;
  for (const [i, score] of scores.entries()) {
    const power = 2 ** (score - top);
    sum += power;
    for (const [e, v] of value(from + i).entries()) {
      o[e] += power * v;
      magnitude[e] += power * Math.abs(v);
    }
  }
  return { top, sum, o, magnitude };
}
