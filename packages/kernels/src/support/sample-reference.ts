import type { Random } from '../spec.ts';
import { weightOf, weightScale, WEIGHT_ONE } from '../weight.ts';
import { hostUniform } from './philox.ts';
import { SAMPLE_FACTS, SAMPLE_TOP, SAMPLE_WORDS, SampleFact as Fact, SampleField as Field } from './sample-params.ts';

/** What `sample` must give, and rows to try it with. */

const [number, word] = [new Float32Array(1), new Int32Array(1)];
const bits = new Uint32Array(number.buffer);

function floatOf(value: number): number {
  bits[0] = value;
  return number[0];
}

function wordOf(value: number): number {
  number[0] = value;
  word[0] = bits[0];
  return word[0];
}

const NOTHING = new Float64Array(0);

/** The rows' logits after bias, penalties and masks. */
export function changedLogits(
  logits: Float64Array,
  rows: number,
  vocabulary: number,
  step: Float64Array = NOTHING,
  history: Float64Array = NOTHING,
  masks: Float64Array = NOTHING,
): Float64Array[] {
  return Array.from({ length: rows }, (_none, r) => {
    const row = logits.slice(r * vocabulary, (r + 1) * vocabulary);
    if (step.length === 0) return row;
    const field = (at: number): number => step[r * SAMPLE_WORDS + at];
    const list = (at: number, count: number, each: number): number[] =>
      Array.from({ length: count }, (_entry, i) => at + each * i);
    for (const at of list(field(Field.BIAS_AT), field(Field.BIAS_COUNT), 2)) {
      row[step[at]] = Math.fround(row[step[at]] + floatOf(step[at + 1]));
    }
    const penalise = (token: number, count: number): void => {
      row[token] = penalised(
        row[token],
        count,
        floatOf(field(Field.REPETITION)),
        floatOf(field(Field.PRESENCE)),
        floatOf(field(Field.FREQUENCY)),
      );
    };
    for (const at of list(field(Field.HISTORY_AT), field(Field.HISTORY_COUNT), 2))
      penalise(history[at], history[at + 1]);
    for (const at of list(field(Field.MORE_AT), field(Field.MORE_COUNT), 2)) penalise(step[at], step[at + 1]);
    for (const at of list(field(Field.FORBIDDEN_AT), field(Field.FORBIDDEN_COUNT), 1)) row[step[at]] = -Infinity;
    for (const at of [field(Field.MASK_AT), field(Field.GRAMMAR_AT)]) {
      if (at < 0) continue;
      for (let t = 0; t < vocabulary; t++) if (((masks[at + (t >>> 5)] >>> (t & 31)) & 1) === 0) row[t] = -Infinity;
    }
    return row;
  });
}

function penalised(logit: number, count: number, repetition: number, presence: number, frequency: number): number {
  const f = Math.fround;
  const scaled = f(logit > 0 ? logit / repetition : logit * repetition);
  return count > 0 ? f(scaled - f(presence + f(frequency * count))) : scaled;
}

/** The token of each row: the definition, by sorting. */
export function drawnTokens(rows: readonly Float64Array[], step: Float64Array = NOTHING): Float64Array {
  return Float64Array.from(rows, (row, r) => {
    const maximum = row.reduce((most, logit) => (logit > most || Number.isNaN(logit) ? logit : most), -Infinity);
    if (!Number.isFinite(maximum) || row.some(Number.isNaN)) return -1;
    const field = (at: number): number => (step.length === 0 ? 0 : step[r * SAMPLE_WORDS + at]);
    const scale = floatOf(field(Field.SCALE));
    if (scale === 0) return row.indexOf(maximum);
    const weight = (t: number): number => weightOf(row[t], maximum, scale);
    let set = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
    if (field(Field.TOP_K) > 0) set = set.slice(0, field(Field.TOP_K));
    const topP = floatOf(field(Field.TOP_P));
    if (topP < 1) {
      const wanted = topP * set.reduce((sum, t) => sum + weight(t), 0);
      let [size, sum] = [0, 0];
      while (size === 0 || sum < wanted) sum += weight(set[size++]);
      set = set.slice(0, size);
    }
    const least = floatOf(field(Field.MIN_P)) * WEIGHT_ONE;
    set = set.filter((t) => weight(t) >= least).sort((a, b) => a - b);
    const total = set.reduce((sum, t) => sum + weight(t), 0);
    const u = hostUniform(field(Field.SEED), field(Field.SEED_HIGH), field(Field.POSITION));
    const target = Math.min(Math.floor(u * total), total - 1);
    let sum = 0;
    return set.find((t) => (sum += weight(t)) > target)!;
  });
}

/** Rows as they are held: each logit's order, and the largest number behind the last one. */
export function heldOrders(rows: readonly Float64Array[], pitch: number): Float64Array {
  const held = new Float64Array(rows.length * pitch).fill(0xffffffff);
  for (const [r, row] of rows.entries()) {
    for (const [t, logit] of row.entries()) {
      const raw = wordOf(logit + 0);
      held[r * pitch + t] = Number.isNaN(logit) ? 0 : (raw >= 0 ? raw ^ 0x7fffffff : raw) >>> 0;
    }
  }
  return held;
}

/** Rows of all kinds in turn: like a model's, flat, with ties, peaked, with forbidden tokens, and without a maximum. */
export function variedLogits(random: Random, length: number, vocabulary: number): Float64Array {
  return Float64Array.from({ length }, (_none, i) => {
    const [kind, t] = [Math.floor(i / vocabulary) % 7, i % vocabulary];
    const normal = random.normal();
    switch (kind) {
      case 0:
      case 1:
        return 3 * normal - 2;
      case 2:
        return Math.round(2 * normal) / 2;
      case 3:
        return t === vocabulary - 2 ? 30 : normal;
      case 4:
        return random.uniform() < 0.7 ? -Infinity : Math.round(8 * normal) / 8;
      case 5:
        // Zeros of both signs, and nothing else above them.
        return t % 5 === 0 ? 0 : t % 5 === 1 ? -0 : -Math.abs(normal);
      default:
        return t === vocabulary - 1 ? (Math.floor(i / vocabulary) % 2 === 0 ? Number.NaN : Infinity) : normal;
    }
  });
}

/** Different tokens, and how often each has been. */
export function variedHistory(_random: Random, length: number, vocabulary: number): Float64Array {
  return Float64Array.from({ length }, (_none, i) => (i % 2 === 0 ? tokenAt(i / 2, vocabulary) : ((i - 1) / 2) % 4));
}

/** Of the i-th entry of lists: all different below the vocabulary. */
function tokenAt(i: number, vocabulary: number): number {
  return (i * 7919 + 5) % vocabulary;
}

/** One mask of random bits, and one that allows a single token. */
export function variedMasks(random: Random, length: number, vocabulary: number): Float64Array {
  const words = Math.ceil(vocabulary / 32);
  return Float64Array.from({ length }, (_none, i) => {
    if (i < words) return random.integer(2 ** 32) | 0;
    return i === words + (vocabulary >>> 6) ? 1 << 9 : 0;
  });
}

/** Parameters that switch every step on and off, for rows with lists of at most 8 entries; see SampleField. */
export function variedStep(random: Random, length: number, rows: number, vocabulary: number): Float64Array {
  const step = new Float64Array(length);
  const lists = rows * SAMPLE_WORDS;
  const entries = Math.min(8, Math.floor(vocabulary / 4));
  // Three lists for all rows: tokens that have been besides those of the history, biases, and forbidden ones.
  for (let i = 0; i < entries; i++) {
    step[lists + 2 * i] = tokenAt(entries + i, vocabulary);
    step[lists + 2 * i + 1] = i;
    step[lists + 16 + 2 * i] = tokenAt(2 * i, vocabulary);
    step[lists + 16 + 2 * i + 1] = wordOf(4 * random.normal());
    step[lists + 32 + i] = tokenAt(3 * i + 1, vocabulary);
  }
  const words = Math.ceil(vocabulary / 32);
  for (let r = 0; r < rows; r++) {
    const bit = (n: number): boolean => ((Math.imul(r, 0x9e3779b1) >>> (31 - n)) & 1) === 1;
    const set = (field: number, value: number): void => void (step[r * SAMPLE_WORDS + field] = value);
    set(Field.SCALE, r % 6 === 0 ? 0 : wordOf(weightScale([1, 0.7, 1.5, 0.05, 30][r % 5])));
    set(Field.TOP_K, bit(0) ? [1, 5, 20, 40][r % 4] : 0);
    set(Field.TOP_P, wordOf(bit(1) ? [0.9, 0.5, 0.001, 0.99][r % 4] : 1));
    set(Field.MIN_P, wordOf(bit(2) ? [0.02, 0.3, 1][r % 3] : 0));
    set(Field.SEED, random.integer(2 ** 32) | 0);
    set(Field.SEED_HIGH, random.integer(2 ** 21));
    set(Field.POSITION, random.integer(5000));
    set(Field.REPETITION, wordOf(1.3));
    set(Field.PRESENCE, wordOf(0.4));
    set(Field.FREQUENCY, wordOf(0.25));
    set(Field.HISTORY_COUNT, bit(3) ? entries : 0);
    set(Field.MORE_AT, lists);
    set(Field.MORE_COUNT, bit(3) && r % 2 === 0 ? entries : 0);
    set(Field.BIAS_AT, lists + 16);
    set(Field.BIAS_COUNT, bit(4) ? entries : 0);
    set(Field.FORBIDDEN_AT, lists + 32);
    set(Field.FORBIDDEN_COUNT, bit(4) && r % 3 === 0 ? entries : 0);
    set(Field.MASK_AT, bit(5) ? 0 : -1);
    set(Field.GRAMMAR_AT, bit(6) && r % 4 === 0 ? words : -1);
  }
  return step;
}

/** Words that `variedStep` needs behind the rows' parameters. */
export const LIST_WORDS = 40;

export function rowsOfLogits(logits: Float64Array, rows: number, vocabulary: number): Float64Array[] {
  return Array.from({ length: rows }, (_none, r) => logits.subarray(r * vocabulary, (r + 1) * vocabulary));
}

/** What `sample_logprobs` must write; -1, every bit set as before a case runs, where it must not. */
export function rowFacts(
  rows: readonly Float64Array[],
  asked: Float64Array,
  token: Float64Array,
): { facts: Float64Array; top: Float64Array } {
  const facts = new Float64Array(rows.length * SAMPLE_FACTS).fill(-1);
  const top = new Float64Array(rows.length * 2 * SAMPLE_TOP).fill(-1);
  for (const [r, row] of rows.entries()) {
    if (asked[r] < 0) continue;
    const order = Array.from(row.keys()).sort((a, b) => row[b] - row[a] || a - b);
    const maximum = row[order[0]];
    const set = (fact: number, value: number): void => void (facts[r * SAMPLE_FACTS + fact] = value);
    set(Fact.RANK, 0);
    if (token[r] < 0 || row.some(Number.isNaN) || !Number.isFinite(maximum)) continue;
    const sum = row.reduce((all, logit) => all + weightOf(logit, maximum, weightScale(1)), 0);
    set(Fact.LOGIT, wordOf(row[token[r]]));
    set(Fact.MAXIMUM, wordOf(maximum + 0));
    set(Fact.SUM, (sum % 2 ** 32) | 0);
    set(Fact.SUM_HIGH, Math.floor(sum / 2 ** 32));
    set(Fact.RANK, order.indexOf(token[r]) + 1);
    for (const [i, t] of order.slice(0, Math.min(SAMPLE_TOP, asked[r])).entries()) {
      top[r * 2 * SAMPLE_TOP + i] = t;
      top[r * 2 * SAMPLE_TOP + SAMPLE_TOP + i] = wordOf(row[t] + 0);
    }
  }
  return { facts, top };
}
