import { NEGLIGIBLE, WEIGHT_ONE, weightOf, weightScale } from '@rose/kernels/weight';
import { uniform } from './philox.ts';

/**
 * A row's most likely tokens, found without sorting the vocabulary. An implementation scans the logits with vector
 * code; the choice itself (`drawToken`) is the same for every device.
 */
export interface LogitRow {
  readonly vocabSize: number;
  /** The largest logit. */
  readonly maximum: number;
  /**
   * Collect the tokens whose logit is at least `threshold`, in ascending order of id, into `tokens` and `logits` from 0
   * on; returns how many. The arrays hold the whole vocabulary.
   */
  collect(threshold: number): number;
  readonly tokens: Int32Array;
  readonly logits: Float32Array;
}

/** The sampling fields of one row, with neutral values where a step is off (see SamplingParams). */
export interface DrawParams {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: number;
  /** Position of the token to be drawn. */
  readonly position: number;
}

/** Weights of the tokens that may be drawn, in ascending order of id; as long as the longest row so far. */
let weights = new Float64Array(0);

/**
 * Draw a token: temperature, then top-k, top-p and min-p choose a set (ties go to the smaller id), then the draw walks that
 * set in ascending order of id. Weights are whole numbers whose sums are exact (`@rose/kernels/weight`), so the choice does
 * not depend on the order of addition, and is the same on every device. `temperature` must be above 0.
 */
export function drawToken(row: LogitRow, params: DrawParams): number {
  const { temperature, topK, topP, minP } = params;
  const { maximum } = row;
  const scale = weightScale(temperature);

  let floor = below(maximum - NEGLIGIBLE * temperature);
  if (topK > 0 && topK < row.vocabSize) floor = Math.max(floor, kthLogit(row, topK, floor));
  // Without top-p, what min-p leaves out need not be collected; with top-p its set is cut afterwards.
  if (minP > 0 && topP >= 1) floor = Math.max(floor, below(maximum + (Math.log(minP) - MIN_P_SLACK) * temperature));
  let count = row.collect(floor);
  if (topK > 0) count = dropTies(row, count, topK);
  if (weights.length < count) weights = new Float64Array(row.vocabSize);
  for (let i = 0; i < count; i++) weights[i] = weightOf(row.logits[i], maximum, scale);
  if (topP < 1) count = keepNucleus(row, count, topP);

  const least = minP * WEIGHT_ONE;
  let total = 0;
  for (let i = 0; i < count; i++) if (weights[i] >= least) total += weights[i];
  const target = Math.min(Math.floor(uniform(params.seed, params.position) * total), total - 1);
  let sum = 0;
  let drawn = 0;
  while (weights[drawn] < least || (sum += weights[drawn]) <= target) drawn++;
  return row.tokens[drawn];
}

/** More than all that rounding may make of the logit at which min-p cuts: the weights decide. */
const MIN_P_SLACK = 1e-3;

/** A little less, so that rounding to float32 leaves out nothing. */
function below(logit: number): number {
  return logit - Math.abs(logit) * 2 ** -22;
}

/**
 * The k most likely tokens of a row, most likely first, ties by ascending id, written to `tokens` and `logits`.
 * Returns how many there are (k, or the vocabulary if that is smaller).
 */
export function topTokens(row: LogitRow, k: number, tokens: Int32Array, logits: Float32Array): number {
  const wanted = Math.min(k, row.vocabSize);
  if (wanted === 0) return 0;
  const count = row.collect(kthLogit(row, wanted, -Infinity));
  const order = byLikelihood(row, count);
  for (let i = 0; i < wanted; i++) {
    tokens[i] = row.tokens[order[i]];
    logits[i] = row.logits[order[i]];
  }
  return wanted;
}

/** The place of a token among all of the row's, likeliest first, ties by ascending id: 1 for the most likely one. */
export function rankOf(row: LogitRow, token: number, logit: number): number {
  const count = row.collect(logit);
  let rank = 1;
  for (let i = 0; i < count; i++) {
    if (row.logits[i] > logit || row.tokens[i] < token) rank++;
  }
  return rank;
}

/** The k-th largest logit, or `floor` if fewer than k logits are above it. Leaves the collected tokens changed. */
function kthLogit(row: LogitRow, k: number, floor: number): number {
  // Logits of trained models fall off within a few units: widen the net until it holds k of them.
  for (let width = 4; ; width *= 2) {
    const threshold = Math.max(row.maximum - width, floor);
    const exhausted = threshold === floor || width > 1e6;
    const count = row.collect(exhausted ? floor : threshold);
    if (count >= k) return row.logits.slice(0, count).sort()[count - k];
    if (exhausted) return floor;
  }
}

/** Of the collected tokens at the k-th logit keep those with the smallest ids, so that exactly k remain. */
function dropTies(row: LogitRow, count: number, k: number): number {
  if (count <= k) return count;
  let least = Infinity;
  for (let i = 0; i < count; i++) least = Math.min(least, row.logits[i]);
  let excess = count - k;
  let kept = count;
  for (let i = count - 1; excess > 0 && i >= 0; i--) {
    if (row.logits[i] !== least) continue;
    row.tokens.copyWithin(i, i + 1, kept);
    row.logits.copyWithin(i, i + 1, kept);
    kept--;
    excess--;
  }
  return kept;
}

/** Keep the smallest set of most likely tokens whose weights sum to at least topP of all, in ascending id order. */
function keepNucleus(row: LogitRow, count: number, topP: number): number {
  let mass = 0;
  for (let i = 0; i < count; i++) mass += weights[i];
  const order = byLikelihood(row, count);
  let sum = 0;
  let size = 0;
  while (size < count && (size === 0 || sum < topP * mass)) sum += weights[order[size++]];
  const kept = order.subarray(0, size).sort();
  for (let i = 0; i < size; i++) {
    row.tokens[i] = row.tokens[kept[i]];
    row.logits[i] = row.logits[kept[i]];
    weights[i] = weights[kept[i]];
  }
  return size;
}

/** Indices of the collected tokens, most likely first, ties by ascending id. */
function byLikelihood(row: LogitRow, count: number): Int32Array {
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  // Collected in ascending id order, so comparing indices breaks ties by id.
  return order.sort((a, b) => row.logits[b] - row.logits[a] || a - b);
}
