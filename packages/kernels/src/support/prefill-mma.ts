import {
  bid,
  bidY,
  bidZ,
  cpAsync,
  cpAsyncCommit,
  cpAsyncWait,
  f32,
  fma,
  Fragment,
  fragment,
  gdim,
  idiv,
  laneId,
  ldmatrix,
  makeLayout,
  min,
  mma,
  OnlineSoftmax,
  packWord,
  range,
  reinterpret,
  select,
  shared,
  sync,
  tid,
  TYPE_TOKENS,
  u32,
  unroll,
  warpId,
  _,
  i32,
  type Tensor,
  type Word,
} from '@rose/cute';
import type { Dims } from '../spec.ts';
import { cacheType, cappedScore, keyWords, MMA, quarterElements, valueWords } from './attention.ts';
import {
  lastFactors,
  masks,
  queryBlock,
  sees,
  tileTokens,
  type PrefillOptions,
  type PrefillTensors,
} from './prefill.ts';
import { vectorsOf } from './rows.ts';
import { bytesOf } from './storage.ts';

/** Attention over tiles by mma.sync and cp.async, for sm_80 and later: four warps of 16 queries. */

export const MMA_THREADS = 128;
export const MMA_ROWS = 64;
const WARP_ROWS = 16;

/**
 * A block has the queries of MMA_ROWS / heads tokens, each token's `heads` neighbouring query heads (1, 2, 4 or 8 that share
 * a key head) in rows one below the other.
 */
export function prefillByMma(t: PrefillTensors, dims: Dims, options: PrefillOptions, heads: number): void {
  'use gpu';
  const { qHeads, kvHeads, head } = dims;
  const stored = TYPE_TOKENS[cacheType(options) as 'bf16'];
  const unit = bytesOf(stored.type, 1);
  const pitch = head + 16 / unit;
  const tile = tileTokens(head);
  const products = { a: options.type, b: options.type, d: 'f32' } as const;
  const [firstHead, sequence] = [bidY() * heads, bidZ()];
  const kvHead = idiv(firstHead, qHeads / kvHeads);
  // Blocks that see most begin first.
  const first = (gdim() - 1 - bid()) * (MMA_ROWS / heads);
  const block = queryBlock(t, sequence, first, MMA_ROWS / heads, tile, options.mask);
  if (first >= block.count) return;
  const [lane, warp] = [laneId(), warpId()];
  const [quad, quarter] = [lane >> 2, lane & 3];

  const tileOf = (name: string): Tensor => shared(stored, makeLayout([tile, head], [pitch, 1]), { name });
  const [keysTile, valuesTile] = [tileOf('keys'), tileOf('values')];
  const chunks = (head * unit) / 16;
  const tableStart = t.tableStarts === undefined ? i32(0) : t.tableStarts[sequence];
  const fetch = (cache: Tensor, to: Tensor, number: i32): void => {
    'use gpu';
    if (number < block.to) {
      // Long heads, and what is widened, leave no registers for many addresses at once.
      const turns = head > 128 || options.cache === 'e4m3' ? 1 : 4;
      for (const i of range(0, (tile * chunks) / MMA_THREADS, 1, { unroll: turns })) {
        const chunk = tid() + i * MMA_THREADS;
        const row = idiv(chunk, chunks);
        const at = number * tile + row;
        // Tokens behind the sequence's end are zeros: what lies there may be no numbers.
        const known = min(at, block.length - 1);
        const from = t.table
          ? cache(t.table[tableStart + (known >> 4)], kvHead, known & 15, _)
          : cache(t.starts![sequence] + known, kvHead, _);
        const column = chunk - row * chunks;
        const read = select(at < block.length, 16, 0);
        cpAsync(to(row, column * (16 / unit)), vectorsOf(from, 16 / unit)(0, column), { bytes: 16, read });
      }
    }
    cpAsyncCommit();
  };
  fetch(t.keys, keysTile, block.from);
  fetch(t.values, valuesTile, block.from);

  // This lane's two queries, of one head, of which those behind the last are the last once more.
  const h = heads === 1 ? firstHead : firstHead + (quad & (heads - 1));
  // Counted from the block's first, so that nothing of them is kept to the end: 8-bit tiles leave no register for it.
  const tokens = [0, 8].map((more) => (warp * WARP_ROWS + quad + more) >> Math.log2(heads));
  const rows = tokens.map((token) => min(first + token, block.count - 1));
  const positions = rows.map((row) => block.length - block.count + row);
  const qWords = reinterpret(t.q, u32);
  const places = quarterElements(options, quarter);
  const queryWords = (part16: number): Word[] =>
    [0, 1].flatMap((part) =>
      rows.map((row) => {
        'use gpu';
        return qWords(block.start + row, (h * head + 16 * part16 + places[part]) >> 1).load()[0];
      }),
    );
  const parts = head / 16;
  // Long heads, and what is widened on its way, leave no registers for them.
  const kept =
    head > 128 || (head > 64 && options.cache === 'e4m3')
      ? shared(u32, makeLayout([4, parts, 32, 4], [parts * 128, 128, 4, 1]), { name: 'queries' })
      : undefined;
  const queries = kept ? [] : Array.from({ length: parts }, (_none, part) => queryWords(part));
  if (kept)
    for (let part = 0; part < parts; part++) kept(warp, part, lane, _).store(new Fragment(queryWords(part), 'u32'));
  const query = (part: number): Word[] => (kept ? kept(warp, part, lane, _).load().values() : queries[part]);

  const scale = t.scale * (t.keyScale ? t.keyScale[kvHead] : f32(1));
  const twice = t.cap === undefined ? f32(0) : (2 * Math.LOG2E * scale) / t.cap;
  const cap = t.cap === undefined ? f32(0) : t.cap * Math.LOG2E;
  const softmax = new OnlineSoftmax(options.cap ? 1 : scale * Math.LOG2E);
  const sums = fragment('f32', head / 2);
  for (const number of range(block.from, block.to)) {
    cpAsyncWait(1);
    sync();
    const scores = fragment('f32', tile / 2);
    const step = 2 / unit;
    for (const part of kept ? range(0, parts, step, { unroll: 1 }) : unroll(0, parts, step)) {
      const own = Array.from({ length: step }, (_none, k) => query(part + k));
      for (let row = 0; row < tile; row += 16) {
        const place = keysTile(row + (lane & 7) + (lane >> 4) * 8, part * 16 + ((lane >> 3) & 1) * (16 / unit));
        const words = keyWords(ldmatrix(place, { count: 4 }), options);
        for (let n = 0; n < 2; n++) {
          for (let k = 0; k < step; k++) {
            const at = 4 * (row / 8 + n);
            const before = [scores[at], scores[at + 1], scores[at + 2], scores[at + 3]];
            const sum = mma(MMA, products, own[k], words[n * step + k], before);
            for (let v = 0; v < 4; v++) scores[at + v] = sum[v];
          }
        }
      }
    }
    sync();
    fetch(t.keys, keysTile, number + 1);

    if (options.cap) for (let v = 0; v < tile / 2; v++) scores[v] = cappedScore(scores[v], twice, cap);
    const lowest = block.length - block.count + first;
    if (masks(t, block, options.mask, lowest, MMA_ROWS / heads, number * tile, tile)) {
      for (let v = 0; v < tile / 2; v++) {
        const at = number * tile + 8 * (v >> 2) + 2 * quarter + (v & 1);
        const seen = sees(t, block, options.mask, positions[(v >> 1) & 1], at);
        scores[v] = select(seen, scores[v], f32(-Infinity));
      }
    }
    const { powers, rescale } = softmax.add(scores.values());
    for (let v = 0; v < head / 2; v++) sums[v] *= rescale[(v >> 1) & 1];
    cpAsyncWait(1);
    sync();
    for (let row = 0; row < tile; row += 16) {
      const weights = [0, 2, 4, 6].map((v) => packWord(powers[row / 2 + v], powers[row / 2 + v + 1], options.type));
      for (let part = 0; part < head; part += 32 / unit) {
        const place = valuesTile(row + (lane & 15), part + (lane >> 4) * (16 / unit));
        const words = valueWords(ldmatrix(place, { count: 4, transpose: true }), options);
        for (const [n, b] of words.entries()) {
          const at = part / 2 + 4 * n;
          const sum = mma(MMA, products, weights, b, [sums[at], sums[at + 1], sums[at + 2], sums[at + 3]]);
          for (let v = 0; v < 4; v++) sums[at + v] = sum[v];
        }
      }
    }
    sync();
    fetch(t.values, valuesTile, number + 1);
  }
  cpAsyncWait(0);

  const factors = lastFactors(t, softmax, h, t.valueScale ? t.valueScale[kvHead] : f32(1));
  for (let r = 0; r < 2; r++) {
    if (tokens[r] < block.count - first) {
      const to = t.y(block.start + first + tokens[r], _);
      // Neighbouring elements of a row: two, or the four of two words of 8-bit elements.
      const stride = options.cache === 'same' ? 4 : 8;
      for (let v = 2 * r; v < head / 2; v += stride) {
        const own = stride === 4 ? [v, v + 1] : [v, v + 4, v + 1, v + 5];
        // Adding 0 makes -0 a 0: a row's zeros are the same however many tiles it met without seeing them.
        const values = new Fragment(
          own.map((i) => fma(sums[i], factors[r], f32(0))),
          'f32',
        ).to(t.y.type);
        const element = stride === 4 ? 2 * v - 4 * r + 2 * quarter : 2 * v - 4 * r + 4 * quarter;
        vectorsOf(to, own.length)(_, idiv(h * head + element, own.length)).store(values);
      }
    }
  }
}
