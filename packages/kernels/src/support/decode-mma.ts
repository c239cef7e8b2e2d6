import {
  bid,
  bidY,
  cpAsync,
  cpAsyncCommit,
  cpAsyncWait,
  ex2,
  f32,
  Fragment,
  fragment,
  gridDependencyWait,
  gridLaunchDependents,
  idiv,
  laneId,
  ldmatrix,
  makeLayout,
  max,
  min,
  mma,
  OnlineSoftmax,
  packWord,
  range,
  reinterpret,
  select,
  shared,
  shuffleIndex,
  sync,
  syncWarp,
  tensorAt,
  tid,
  TYPE_TOKENS,
  u32,
  warpId,
  _,
  i32,
  type Tensor,
  type Word,
} from '@rose/cute';
import type { Dims } from '../spec.ts';
import { cacheType, cappedScore, keyWords, MMA, quarterElements, valueWords } from './attention.ts';
import { splitTokens } from './decode-items.ts';
import { early } from './early.ts';
import { ROWS, rowTiles, type DecodeOptions } from './decode-spec.ts';
import { finishAlone, itemsOfSequence, putTogether, type WholeTensors } from './decode-whole.ts';
import { PAGE } from './page.ts';
import { vectorsOf } from './rows.ts';
import { bytesOf } from './storage.ts';

/** Attention of few query tokens over pages, a split of them by each CTA. */

/** Warps of a CTA: each takes every fourth page of a split, in its own softmax. */
export const DECODE_THREADS = 128;
const WARPS = DECODE_THREADS / 32;
/** Shared memory of a CTA that tiles should fit in, so that two CTAs share a multiprocessor. */
const TILE_BYTES = 104 * 1024;

export interface DecodeTensors extends Partial<Omit<WholeTensors, 'items' | 'o' | 'stats'>> {
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly keyScale?: Tensor;
  readonly valueScale?: Tensor;
  readonly table: Tensor;
  readonly tableStarts: Tensor;
  readonly rowStarts: Tensor;
  readonly lengths: Tensor;
  readonly items: Tensor;
  readonly o: Tensor;
  readonly stats: Tensor;
  readonly scale: f32;
  readonly cap?: f32;
  readonly window?: i32;
}

/** Shared memory of a CTA besides tiles, at most. */
const OTHER_BYTES = 4 * 1024;

/** Bytes that a page of keys and of values takes of each warp's tiles. */
function stageBytes(head: number, options: Pick<DecodeOptions, 'cache' | 'type'>): number {
  return WARPS * 2 * PAGE * (bytesOf(cacheType(options), head) + 16);
}

/** Pages that a warp has under way or at work, where nothing else is chosen. It says how fast, never what is computed. */
export function usualStages(head: number, options: Pick<DecodeOptions, 'cache' | 'type'>): 2 | 3 | 4 {
  return Math.min(4, Math.max(2, Math.floor(TILE_BYTES / stageBytes(head, options)))) as 2 | 3 | 4;
}

/**
 * The same for GPUs whose CTAs can have no more than `sharedBytes` of shared memory (99 KiB of sm_86 and sm_89); undefined where
 * even two pages are too many.
 */
export function decodeStages(
  head: number,
  options: Pick<DecodeOptions, 'cache' | 'type'>,
  sharedBytes: number,
): 2 | 3 | 4 | undefined {
  const most = Math.floor((sharedBytes - OTHER_BYTES) / stageBytes(head, options));
  return most < 2 ? undefined : (Math.min(usualStages(head, options), most) as 2 | 3 | 4);
}

export function decodeByMma(t: DecodeTensors, dims: Dims, options: DecodeOptions, stages: number): void {
  'use gpu';
  const { kvHeads, head, tokens: most } = dims;
  const group = dims.qHeads / kvHeads;
  const tiles = rowTiles(dims);
  const splitPages = splitTokens(head) / PAGE;
  const stored = TYPE_TOKENS[cacheType(options) as 'bf16'];
  const unit = bytesOf(stored.type, 1);
  // Rows are 16 bytes further apart than they are long: eight neighbouring ones lie in different banks.
  const pitch = head + 16 / unit;
  const products = { a: options.type, b: options.type, d: 'f32' } as const;

  const item = bid();
  const sequence = early(t.items(item, 0));
  if (sequence < 0) {
    // The next kernel's wait is for all that were before this one, too.
    gridDependencyWait();
    return;
  }
  const split = early(t.items(item, 1));
  const kvHead = idiv(bidY(), tiles);
  const firstRow = (bidY() - kvHead * tiles) * ROWS;
  const start = early(t.rowStarts(sequence));
  const tokens = early(t.rowStarts(sequence + 1)) - start;
  const length = early(t.lengths(sequence));
  const [lane, warp] = [laneId(), warpId()];
  const [quad, quarter] = [lane >> 2, lane & 3];

  // The pages of this split that exist and that the first query's window reaches: `begin` to `end`, counted in the split.
  const splitPage = split * splitPages;
  const end = min(splitPages, ((length + PAGE - 1) >> 4) - splitPage);
  const reach = t.window === undefined ? 0 : max(0, length - tokens - t.window + 1) >> 4;
  const begin = max(0, reach - splitPage);
  // This warp's are begin + (warp - begin) mod 4, and every fourth from there.
  const mine = begin + ((warp - begin) & (WARPS - 1));
  const turns = max(0, end - mine + WARPS - 1) >> 2;
  const wanted = mine + WARPS * min(lane, splitPages / WARPS - 1);
  const pageOfLane = early(t.table(early(t.tableStarts(sequence)) + splitPage + min(wanted, end - 1)));
  const items = t.starts && itemsOfSequence(t.starts, t.items, sequence);
  gridDependencyWait();
  gridLaunchDependents();

  const tileRows = WARPS * stages * PAGE;
  const pages = shared(stored, makeLayout([2, tileRows, head], [tileRows * pitch, pitch, 1]), { name: 'pages' });
  const [keysTile, valuesTile] = [pages(0, _, _), pages(1, _, _)];
  const chunks = (head * unit) / 16;
  const fetch = (turn: i32, stage: i32): void => {
    'use gpu';
    if (turn < turns) {
      const page = shuffleIndex(pageOfLane, turn);
      const left = length - (splitPage + mine + turn * WARPS) * PAGE;
      const [fromKeys, fromValues] = [t.keys, t.values].map((cache) => vectorsOf(cache(page, kvHead, 0, _), 16 / unit));
      for (let i = 0; i < (PAGE * chunks) / 32; i++) {
        const chunk = lane + 32 * i;
        const row = idiv(chunk, chunks);
        const to = (warp * stages + stage) * PAGE + row;
        const column = (chunk - row * chunks) * (16 / unit);
        // Rows behind the sequence's end are zeros: what lies there may be no numbers.
        const read = select(row < left, 16, 0);
        cpAsync(keysTile(to, column), fromKeys(0, chunk), { bytes: 16, read });
        cpAsync(valuesTile(to, column), fromValues(0, chunk), { bytes: 16, read });
      }
    }
    cpAsyncCommit();
  };
  for (let stage = 0; stage < stages - 1; stage++) fetch(stage, stage);

  // This lane's two rows: which token and head, and the words of their queries.
  const rows = [0, 8].map((more) => {
    'use gpu';
    const row = firstRow + quad + more;
    const token = min(idiv(row, group), tokens - 1);
    return { token, h: kvHead * group + (row - idiv(row, group) * group), position: length - tokens + token };
  });
  const qWords = reinterpret(t.q, u32);
  const places = quarterElements(options, quarter);
  const queryWords = (block: number): Word[] =>
    [0, 1].flatMap((part) =>
      rows.map(({ token, h }) => {
        'use gpu';
        return qWords(start + token, (h * head + 16 * block + places[part]) >> 1).load()[0];
      }),
    );
  const blocks = head / 16;
  // Long heads leave no registers for them: all warps share them in shared memory.
  const kept = head > 128 ? shared(u32, makeLayout([blocks, 32, 4], [128, 4, 1]), { name: 'queries' }) : undefined;
  const queries = kept ? [] : Array.from({ length: blocks }, (_none, block) => queryWords(block));
  if (kept) {
    for (let block = 0; block < blocks; block++) {
      if (warp === block % WARPS) kept(block, lane, _).store(new Fragment(queryWords(block), 'u32'));
    }
    sync();
  }
  const query = (block: number): Word[] => (kept ? kept(block, lane, _).load().values() : queries[block]);

  let factor = t.scale * (t.keyScale ? t.keyScale[kvHead] : f32(1));
  const twice = t.cap === undefined ? f32(0) : (2 * Math.LOG2E * factor) / t.cap;
  const cap = t.cap === undefined ? f32(0) : t.cap * Math.LOG2E;
  factor = factor * Math.LOG2E;
  const softmax = new OnlineSoftmax(options.cap ? 1 : factor);
  const sums = fragment('f32', head / 2);
  let stage = i32(0);
  for (const turn of range(0, turns)) {
    cpAsyncWait(stages - 2);
    syncWarp();
    fetch(turn + stages - 1, select(stage === 0, stages - 1, stage - 1));
    const tile = (warp * stages + stage) * PAGE;

    let scores = Array.from({ length: 8 }, () => f32(0)) as number[];
    const keyRow = tile + (lane & 7) + (lane >> 4) * 8;
    for (let block = 0; block < head; block += 32 / unit) {
      const words = keyWords(
        ldmatrix(keysTile(keyRow, block + ((lane >> 3) & 1) * (16 / unit)), { count: 4 }),
        options,
      );
      for (let k = 0; k < 2 / unit; k++) {
        const a = query(block / 16 + k);
        for (let n = 0; n < 2; n++) {
          const b = words[n * (2 / unit) + k];
          const sum = mma(MMA, products, a, b, scores.slice(4 * n, 4 * n + 4));
          scores = n === 0 ? [...sum, ...scores.slice(4)] : [...scores.slice(0, 4), ...sum];
        }
      }
    }
    const first = (splitPage + mine + turn * WARPS) * PAGE + 2 * quarter;
    scores = scores.map((score, v) => {
      'use gpu';
      const at = first + 8 * (v >> 2) + (v & 1);
      const { position } = rows[(v >> 1) & 1];
      const value = options.cap ? cappedScore(score, twice, cap) : score;
      const seen = t.window === undefined ? at <= position : at <= position && at > position - t.window;
      return select(seen, value, f32(-Infinity));
    });
    const { powers, rescale } = softmax.add(scores);
    const weights = [0, 2, 4, 6].map((v) => packWord(powers[v], powers[v + 1], options.type));
    for (let v = 0; v < head / 2; v++) sums[v] *= rescale[(v >> 1) & 1];
    for (let block = 0; block < head; block += 32 / unit) {
      const place = valuesTile(tile + (lane & 15), block + (lane >> 4) * (16 / unit));
      const words = valueWords(ldmatrix(place, { count: 4, transpose: true }), options);
      for (const [n, b] of words.entries()) {
        const at = (block * 2) / 4 + 4 * n;
        const sum = mma(MMA, products, weights, b, [sums[at], sums[at + 1], sums[at + 2], sums[at + 3]]);
        for (let v = 0; v < 4; v++) sums[at + v] = sum[v];
      }
    }
    stage = select(stage === stages - 1, 0, stage + 1);
  }
  cpAsyncWait(0);
  sync();

  // The warps' parts, in their order; where pages were, so that two CTAs have room.
  const parts = tensorAt(pages.address, f32, makeLayout([WARPS, ROWS, head], [ROWS * (head + 4), head + 4, 1]));
  const tops = shared(f32, makeLayout([WARPS, ROWS, 2], [2 * ROWS, 2, 1]), { name: 'tops' });
  for (const [r, { top, sum }] of softmax.rows().entries()) {
    if (quarter === 0) {
      tops(warp, quad + 8 * r, _)[0] = top;
      tops(warp, quad + 8 * r, _)[1] = sum;
    }
  }
  for (let v = 0; v < head / 2; v++) {
    const [n, e] = [v >> 2, v & 1];
    const element = options.cache === 'same' ? 8 * n + 2 * quarter + e : 16 * (n >> 1) + (n & 1) + 4 * quarter + 2 * e;
    parts(warp, quad + 8 * ((v >> 1) & 1), _)[element] = sums[v];
  }
  sync();
  const placeOf = (row: i32) => {
    'use gpu';
    const token = idiv(firstRow + row, group);
    const h = kvHead * group + (firstRow + row - token * group);
    return { token, h, live: firstRow + row < tokens * group && token < most };
  };
  const vectors = head / 4;
  for (let i = 0; i < (ROWS * vectors) / (32 * WARPS); i++) {
    const at = tid() + 32 * WARPS * i;
    const row = idiv(at, vectors);
    const vector = at - row * vectors;
    const stats = Array.from({ length: WARPS }, (_none, w) => vectorsOf(tops(w, row, _), 2)(_, 0).load());
    let top = f32(-Infinity);
    for (const [own] of stats) top = max(top, own);
    let total = f32(0);
    const all = fragment('f32', 4);
    for (let w = 0; w < WARPS; w++) {
      const weight = select(stats[w][0] === -Infinity, f32(0), ex2(stats[w][0] - top));
      total += weight * stats[w][1];
      const part = vectorsOf(parts(w, row, _), 4)(_, vector).load();
      for (let e = 0; e < 4; e++) all[e] += weight * part[e];
    }
    const { token, h, live } = placeOf(row);
    if (live) {
      const part = all.map((e) => e * (t.valueScale ? t.valueScale[kvHead] : f32(1)));
      const alone = items === undefined ? false : items.to - items.from === 1;
      if (alone) finishAlone(t as WholeTensors, start + token, h, vector, part, total, top);
      else {
        vectorsOf(t.o(item, token, h, _), 4)(_, vector).store(part);
        if (vector === 0) {
          t.stats(item, token, h, _)[0] = top;
          t.stats(item, token, h, _)[1] = total;
        }
      }
    }
  }
  if (items !== undefined) {
    const counter = t.arrived!(sequence, bidY());
    putTogether(t as WholeTensors, { place: placeOf, start }, items, counter, head, DECODE_THREADS);
  }
}
