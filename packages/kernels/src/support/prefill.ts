import { ex2, f32, fma, max, min, rcp, select, type i32, type OnlineSoftmax, type Tensor } from '@rose/cute';
import type { Chosen } from '../spec.ts';

/** What the paths of `attention_prefill` share: its options, which keys a block of queries sees, and the last division. */

export const PREFILL_OPTIONS = {
  type: ['bf16', 'f16'],
  cache: ['same', 'e4m3'],
  layout: ['paged', 'rows'],
  mask: ['causal', 'bidirectional'],
  window: [false, true],
  cap: [false, true],
  sinks: [false, true],
} as const;
export type PrefillOptions = Chosen<typeof PREFILL_OPTIONS>;

/** The same for kernels that compute in float32, too. */
export type RowsOptions = Omit<PrefillOptions, 'type'> & { readonly type: PrefillOptions['type'] | 'f32' };

export interface PrefillTensors {
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly keyScale?: Tensor;
  readonly valueScale?: Tensor;
  /** Pages of all sequences, and where each one's begin. */
  readonly table?: Tensor;
  readonly tableStarts?: Tensor;
  readonly starts?: Tensor;
  readonly rowStarts: Tensor;
  readonly lengths: Tensor;
  readonly sinks?: Tensor;
  readonly y: Tensor;
  readonly scale: f32;
  readonly cap?: f32;
  readonly window?: i32;
}

/**
 * Tokens of a tile of keys, which begins at a multiple of that: a constant of the head's length alone, since rows rescale
 * their sums tile by tile. It is what registers hold beside the sums.
 */
export function tileTokens(head: number): number {
  return head > 128 ? 64 : 128;
}

/** A block of a sequence's queries. */
export interface QueryBlock {
  readonly sequence: i32;
  /** Row of `q` of the sequence's first query. */
  readonly start: i32;
  /** The block's first query, counted in the sequence's. */
  readonly first: i32;
  /** Queries and tokens of the sequence; a sequence without tokens has no queries, whatever rows it has. */
  readonly count: i32;
  readonly length: i32;
  /** Tiles that some query of the block sees: `from` up to but not `to`. */
  readonly from: i32;
  readonly to: i32;
}

/** The block that begins at query `first`, of `rows` queries. */
export function queryBlock(
  t: PrefillTensors,
  sequence: i32,
  first: i32,
  rows: number,
  tile: number,
  mask: PrefillOptions['mask'],
): QueryBlock {
  'use gpu';
  const start = t.rowStarts[sequence];
  const length = t.lengths[sequence];
  const count = select(length > 0, t.rowStarts[sequence + 1] - start, 0);
  const lowest = length - count + first;
  const highest = length - count + min(first + rows, count) - 1;
  const shift = Math.log2(tile);
  const from = t.window === undefined ? 0 : max(0, lowest - t.window + 1) >> shift;
  let end = length;
  if (mask === 'causal') end = highest + 1;
  else if (t.window !== undefined) end = min(length, highest + t.window);
  return { sequence, start, first, count, length, from, to: (end + tile - 1) >> shift };
}

/** Whether the query at a position sees the key at another. */
export function sees(
  t: PrefillTensors,
  block: QueryBlock,
  mask: PrefillOptions['mask'],
  position: i32,
  at: i32,
): boolean {
  'use gpu';
  const before = mask === 'causal' ? at <= position : at < block.length;
  if (t.window === undefined) return before;
  const near = before && at > position - t.window;
  return mask === 'causal' ? near : near && at < position + t.window;
}

/** Whether some query of `rows` from `lowest` on does not see some key of the tile at `at`. */
export function masks(
  t: PrefillTensors,
  block: QueryBlock,
  mask: PrefillOptions['mask'],
  lowest: i32,
  rows: number,
  at: i32,
  tile: number,
): boolean {
  'use gpu';
  const behind = mask === 'causal' ? at + tile - 1 > lowest : at + tile > block.length;
  if (t.window === undefined) return behind;
  const either = behind || at <= lowest + rows - 1 - t.window;
  return mask === 'causal' ? either : either || at + tile - 1 >= lowest + t.window;
}

/** What a thread's rows' sums are multiplied by at the end; see `lastFactor`. */
export function lastFactors(t: PrefillTensors, softmax: OnlineSoftmax, h: i32, valueScale: f32): f32[] {
  'use gpu';
  return softmax.rows().map(({ top, sum }) => lastFactor(t, top, sum, h, valueScale));
}

/** 1 / (sum of powers), a sink's among them; `top` is the largest score in powers of two. */
export function lastFactor(t: PrefillTensors, top: f32, sum: f32, h: i32, valueScale: f32): f32 {
  'use gpu';
  if (t.sinks === undefined) return rcp(sum) * valueScale;
  const sink = t.sinks[h] * Math.LOG2E;
  const largest = max(top, sink);
  const share = select(top === -Infinity, f32(0), ex2(top - largest));
  return share * valueScale * rcp(fma(sum, share, ex2(sink - largest)));
}
