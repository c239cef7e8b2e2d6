import {
  Accumulators,
  bid,
  bidY,
  bidZ,
  descriptorAdd,
  f32,
  fenceAsync,
  fenceBarrierInit,
  fma,
  Fragment,
  gdim,
  i32,
  idiv,
  laneId,
  makeLayout,
  mbarrier,
  min,
  NamedBarrier,
  OnlineSoftmax,
  operandSlice,
  packWord,
  range,
  Ring,
  select,
  setMaxRegisters,
  shared,
  smemTile,
  sync,
  syncWarp,
  tensorAt,
  tid,
  tileBoxes,
  tileMap,
  tmaLoad,
  TYPE_TOKENS,
  warpId,
  wgmma,
  wgmmaCommit,
  wgmmaDescriptor,
  wgmmaFence,
  wgmmaWait,
  widestSwizzle,
  _,
  fragment,
  type Producer,
  type Tensor,
  type TensorMapDescription,
  type TileBoxes,
} from '@rose/cute';
import type { Dims, TensorArgument } from '../spec.ts';
import { cacheType, cappedScore } from './attention.ts';
import { PAGE } from './page.ts';
import {
  lastFactors,
  masks,
  queryBlock,
  sees,
  tileTokens,
  type PrefillOptions,
  type PrefillTensors,
} from './prefill.ts';
import { NarrowTiles, WIDEN_THREADS } from './prefill-widen.ts';
import { vectorsOf } from './rows.ts';
import { bytesOf } from './storage.ts';

/**
 * Attention over tiles by wgmma and TMA, for sm_90a: one warp loads tiles of keys and values into rings, two warpgroups of
 * 64 queries each take turns, so that one computes powers while the other's products run (Shah et al. 2024, FlashAttention-3).
 */

export const WGMMA_ROWS = 128;
export const WGMMA_THREADS = 384;
const GROUP_ROWS = 64;
const STAGES = 2;

/** How queries, keys and values lie in shared memory. */
function layoutsOf(head: number) {
  const swizzle = widestSwizzle(head, 16);
  const tile = tileTokens(head);
  return {
    queries: smemTile('k', swizzle, 16, WGMMA_ROWS, head),
    keys: smemTile('k', swizzle, 16, tile, head),
    // Their products sum over tokens: what is contiguous, a token's elements, is the other dimension.
    values: smemTile('mn', swizzle, 16, head, tile),
  };
}

/** Rows of the tensor map of keys: of one head, or of all heads of a token. */
function cacheRows({ shape }: TensorArgument, { layout }: PrefillOptions): number {
  return layout === 'paged' ? shape[0] * shape[1] * shape[2] : shape[0];
}

/** The boxes that bring a tile of keys or of values: as wgmma takes them, or of 8-bit elements row by row. */
function cacheBoxes(head: number, { cache }: PrefillOptions): TileBoxes {
  if (cache === 'same') return tileBoxes(layoutsOf(head).keys, 16);
  return { box: [head, tileTokens(head)], swizzle: 'none', starts: [{ bytes: 0, shift: 0 }] };
}

/** The tensor maps of `q`, `keys` and `values`; `heads` query heads share a block of queries. */
export function wgmmaMaps(
  { qHeads, kvHeads, head }: Dims,
  options: PrefillOptions,
  heads: number,
  args: { readonly q: TensorArgument; readonly keys: TensorArgument },
): Readonly<Record<'q' | 'keys' | 'values', TensorMapDescription>> {
  const layouts = layoutsOf(head);
  const { type, layout } = options;
  const keys = cacheBoxes(head, options);
  const rows = cacheRows(args.keys, options);
  const element = cacheType(options) as 'bf16' | 'f16' | 'e4m3';
  // Pages are 16 rows of one head; rows have all heads side by side.
  const cache =
    layout === 'paged'
      ? tileMap(element, [head, rows], { ...keys, box: [keys.box[0], PAGE] })
      : tileMap(element, [kvHeads * head, rows], keys);
  const { box, swizzle } = tileBoxes(layouts.queries, 16);
  const q = {
    ...{ element: type, swizzle, shape: [head, qHeads, args.q.shape[0]] },
    // Of each token its heads, one row each.
    box: [box[0], heads, WGMMA_ROWS / heads],
  };
  return { q, keys: cache, values: cache };
}

/**
 * Tensors, but for `q`, `keys` and `values`, which are tensor maps. A block has the queries of WGMMA_ROWS / heads tokens,
 * each token's `heads` neighbouring query heads (1, 2, 4 or 8 that share a key head) in rows one below the other.
 */
export function prefillByWgmma(t: PrefillTensors, dims: Dims, options: PrefillOptions, heads: number): void {
  'use gpu';
  const { qHeads, kvHeads, head } = dims;
  const tile = tileTokens(head);
  const layouts = layoutsOf(head);
  const { type } = options;
  const bytes = tile * head * 2;
  const queries = shared(TYPE_TOKENS[type], WGMMA_ROWS * head, { align: 1024, name: 'queries' });
  const keys = shared(TYPE_TOKENS[type], STAGES * tile * head, { align: 1024, name: 'keys' });
  const values = shared(TYPE_TOKENS[type], STAGES * tile * head, { align: 1024, name: 'values' });
  const narrow = options.cache === 'e4m3' ? new NarrowTiles(head, type) : undefined;
  const producer = narrow ? ({ kind: 'threads', threads: WIDEN_THREADS } as const) : ({ kind: 'tma' } as const);
  const ring = { stages: STAGES, producer, consumers: 8 };
  const [keyRing, valueRing] = [new Ring(ring), new Ring(ring)];
  const queriesCame = mbarrier('queries came');
  // Of the block, what is needed at its end: meanwhile there is no register to keep it in.
  const kept = shared(i32, 3, { name: 'kept' });
  const [firstHead, sequence] = [bidY() * heads, bidZ()];
  const kvHead = idiv(firstHead, qHeads / kvHeads);
  const shift = Math.log2(heads);
  // Blocks that see most begin first.
  const first = (gdim() - 1 - bid()) * (WGMMA_ROWS / heads);
  const block = queryBlock(t, sequence, first, WGMMA_ROWS / heads, tile, options.mask);
  if (first >= block.count) return;
  if (tid() === 0) {
    keyRing.init();
    valueRing.init();
    narrow?.ring.init();
    queriesCame.init(1);
    for (const [i, value] of [block.start, block.count, block.length].entries()) kept[i] = value;
    fenceBarrierInit();
  }
  sync();
  const [lane, warp] = [laneId(), warpId()];
  const group = warp >> 2;
  if (group === 2) {
    setMaxRegisters('dec', narrow ? 40 : 24);
    if (warp !== 8) {
      if (narrow) {
        const came = narrow.ring.consumer();
        const [keyStages, valueStages] = [keyRing.producer(), valueRing.producer()];
        const across = tileBoxes(layouts.keys, 16).box[0];
        narrow.widen(came, keyStages.acquire(), keys, across);
        for (const number of range(block.from, block.to)) {
          if (number + 1 < block.to) narrow.widen(came, keyStages.acquire(), keys, across);
          narrow.widen(came, valueStages.acquire(), values, across);
        }
      }
      return;
    }
    if (lane === 0) {
      queriesCame.expect(WGMMA_ROWS * head * 2);
      for (const { bytes: at, shift } of tileBoxes(layouts.queries, 16).starts) {
        tmaLoad(queries(at / 2), t.q, [shift, firstHead, block.start + first], queriesCame);
      }
    }
    const { box, starts } = cacheBoxes(head, options);
    const unit = bytesOf(cacheType(options), 1);
    const pages = (block.length + PAGE - 1) >> 4;
    const lanes = options.layout === 'paged' ? tile / PAGE : 1;
    const tableStart = t.tableStarts === undefined ? i32(0) : t.tableStarts[sequence];
    const keyStages = (narrow?.ring ?? keyRing).producer();
    const valueStages = narrow ? keyStages : valueRing.producer();
    const load = (stages: Producer, from: Tensor, to: Tensor, row: i32): void => {
      'use gpu';
      const stage = stages.acquire();
      if (lane === 0) stage.expect(tile * head * unit);
      syncWarp();
      if (lane < lanes) {
        for (const { bytes: at, shift } of starts) {
          const place = to(stage.index * (tile * head) + lane * (PAGE * box[0]) + at / unit);
          const column = options.layout === 'paged' ? i32(shift) : kvHead * head + shift;
          tmaLoad(place, from, [column, row], stage.barrier);
        }
      }
    };
    const rowOf = (number: i32): i32 => {
      'use gpu';
      if (t.table === undefined) return t.starts![sequence] + number * tile;
      const page = number * (tile / PAGE) + min(lane, lanes - 1);
      const known = t.table[tableStart + min(page, pages - 1)];
      // What lies outside of the map comes as zeros.
      return select(page < pages, (known * kvHeads + kvHead) * PAGE, i32(-PAGE));
    };
    let row = rowOf(block.from);
    const [keysCome, valuesCome] = narrow ? [narrow.tiles, narrow.tiles] : [keys, values];
    load(keyStages, t.keys, keysCome, row);
    for (const number of range(block.from, block.to)) {
      // The next tile's keys are wanted before this one's values.
      const next = rowOf(number + 1);
      if (number + 1 < block.to) load(keyStages, t.keys, keysCome, next);
      load(valueStages, t.values, valuesCome, row);
      row = next;
    }
  } else {
    setMaxRegisters('inc', narrow ? 232 : 240);
    const [quad, quarter] = [lane >> 2, lane & 3];
    const mine = first + group * (GROUP_ROWS / heads);
    const tokenOf = (more: number): i32 => mine + (((warp & 3) * 16 + quad + more) >> shift);
    const before = block.length - block.count;
    const lowest = before + mine;
    const positions = [0, 8].map((more) => before + min(tokenOf(more), block.count - 1));
    const scale = t.scale * (t.keyScale ? t.keyScale[kvHead] : f32(1));
    const twice = t.cap === undefined ? f32(0) : (2 * Math.LOG2E * scale) / t.cap;
    const cap = t.cap === undefined ? f32(0) : t.cap * Math.LOG2E;
    const softmax = new OnlineSoftmax(options.cap ? 1 : scale * Math.LOG2E);
    const [keyStages, valueStages] = [keyRing.consumer(), valueRing.consumer()];
    const turns = [new NamedBarrier(1, 256), new NamedBarrier(2, 256)];
    const both = new NamedBarrier(3, 256);
    const scores = new Accumulators(tile);
    const sums = new Accumulators(head);
    sums.fill(0);
    const marks = shared(f32, 256, { name: 'marks' });
    const weights = fragment('b32', tile / 4);

    const ownQueries = operandSlice(layouts.queries, 16, { row: GROUP_ROWS, rows: GROUP_ROWS });
    const fromQueries = descriptorAdd(wgmmaDescriptor(queries, ownQueries), group * ownQueries.bytes);
    const fromKeys = wgmmaDescriptor(keys, operandSlice(layouts.keys, 16, { rows: tile }));
    const fromValues = wgmmaDescriptor(values, operandSlice(layouts.values, 16, { rows: head }));
    const multiplyKeys = (stage: i32): void => {
      'use gpu';
      const b = descriptorAdd(fromKeys, stage * bytes);
      for (let k = 0; k < head; k += 16) {
        const at = operandSlice(layouts.queries, 16, { rows: GROUP_ROWS, k }).bytes;
        const from = operandSlice(layouts.keys, 16, { rows: tile, k }).bytes;
        wgmma(scores, descriptorAdd(fromQueries, at), descriptorAdd(b, from), { a: type, accumulate: k > 0 });
      }
      wgmmaCommit();
    };
    const multiplyValues = (stage: i32): void => {
      'use gpu';
      const b = descriptorAdd(fromValues, stage * bytes);
      for (let k = 0; k < tile; k += 16) {
        const from = operandSlice(layouts.values, 16, { rows: head, k }).bytes;
        wgmma(sums, weights.values().slice(k / 4, k / 4 + 4), descriptorAdd(b, from), { a: type, transposeB: true });
      }
      wgmmaCommit();
    };
    /** Powers of the scores of a tile, and what the sums so far are multiplied by. */
    const powersOf = (number: i32): ReturnType<OnlineSoftmax['add']> => {
      'use gpu';
      const all = scores.values();
      if (options.cap) for (let v = 0; v < tile / 2; v++) all[v] = cappedScore(all[v], twice, cap);
      if (masks(t, block, options.mask, lowest, GROUP_ROWS / heads, number * tile, tile)) {
        for (let v = 0; v < tile / 2; v++) {
          const at = number * tile + 8 * (v >> 2) + 2 * quarter + (v & 1);
          const seen = sees(t, block, options.mask, positions[(v >> 1) & 1], at);
          all[v] = select(seen, all[v], f32(-Infinity));
        }
      }
      return softmax.add(all.values());
    };
    const weigh = (powers: readonly number[]): void => {
      'use gpu';
      for (let word = 0; word < tile / 4; word++) {
        weights[word] = packWord(powers[2 * word], powers[2 * word + 1], type);
      }
    };
    const takeTurn = (): void => {
      'use gpu';
      if (group === 0) turns[0].sync();
      else turns[1].sync();
    };
    const giveTurn = (last: boolean): void => {
      'use gpu';
      if (group === 0) turns[1].arrive();
      else if (!last) turns[0].arrive();
    };
    const free = (stage: { release(): void }): void => {
      'use gpu';
      if (lane === 0) stage.release();
    };

    queriesCame.wait(0);
    if (group === 1) turns[0].arrive();
    const begin = keyStages.wait();
    takeTurn();
    wgmmaFence();
    multiplyKeys(begin.index);
    giveTurn(block.from + 1 >= block.to);
    wgmmaWait(0, scores);
    free(begin);
    weigh(powersOf(block.from).powers);
    for (const number of range(block.from + 1, block.to)) {
      const key = keyStages.wait();
      takeTurn();
      wgmmaFence();
      multiplyKeys(key.index);
      const value = valueStages.wait();
      multiplyValues(value.index);
      giveTurn(number + 1 >= block.to);
      wgmmaWait(1, scores);
      free(key);
      const { powers, rescale, sums: added } = powersOf(number);
      // ptxas moves the wait below before the powers, unless something in memory needs them: nobody reads this.
      marks[tid()] = added[0] + added[1];
      wgmmaWait(0, sums);
      free(value);
      for (let v = 0; v < head / 2; v++) sums[v] *= rescale[(v >> 1) & 1];
      weigh(powers);
    }
    const end = valueStages.wait();
    const left = kept[2] - (block.to - 1) * tile;
    if (left < tile) {
      // Tokens behind the sequence's end weigh 0, and 0 times what is no number would be none.
      const { box, starts } = tileBoxes(layouts.keys, 16);
      const pieces = box[0] / 8;
      for (const { bytes: at } of starts) {
        for (const piece of range(left * pieces + tid(), tile * pieces, 256)) {
          const place = values(end.index * (tile * head) + at / 2 + piece * 8);
          tensorAt(place.address, TYPE_TOKENS[type], makeLayout(8)).store(fragment(type, 8));
        }
      }
      fenceAsync();
      both.sync();
    }
    wgmmaFence();
    multiplyValues(end.index);
    wgmmaWait(0, sums);

    // Two rows, of one head, since no more than eight share a block.
    const h = heads === 1 ? firstHead : firstHead + (quad & (heads - 1));
    const factors = lastFactors(t, softmax, h, t.valueScale ? t.valueScale[kvHead] : f32(1));
    for (let r = 0; r < 2; r++) {
      const token = tokenOf(8 * r);
      if (token < kept[1]) {
        const to = t.y(kept[0] + token, _);
        for (let v = 2 * r; v < head / 2; v += 4) {
          // Adding 0 makes -0 a 0: a row's zeros are the same however many tiles it met without seeing them.
          const pair = [v, v + 1].map((i) => fma(sums[i], factors[r], f32(0)));
          const place = (h * head + 2 * v - 4 * r + 2 * quarter) >> 1;
          vectorsOf(to, 2)(_, place).store(new Fragment(pair, 'f32').to(t.y.type));
        }
      }
    }
  }
}
