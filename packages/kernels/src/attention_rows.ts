import {
  bid,
  bidY,
  bidZ,
  cpAsync,
  cpAsyncCommit,
  cpAsyncWait,
  ex2,
  f32,
  fma,
  Fragment,
  fragment,
  gdim,
  idiv,
  laneId,
  makeLayout,
  max,
  min,
  range,
  select,
  shared,
  shuffleXor,
  sync,
  syncWarp,
  tid,
  TYPE_TOKENS,
  warpId,
  _,
  i32,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { cappedScore } from './support/attention.ts';
import {
  lastFactor,
  PREFILL_OPTIONS,
  queryBlock,
  sees,
  type PrefillTensors,
  type RowsOptions,
} from './support/prefill.ts';
import {
  PREFILL_DIMS,
  prefillArgs,
  prefillReference,
  prefillRoofline,
  sizesRefused,
  type PrefillArgs,
} from './support/prefill-spec.ts';
import { bound } from './support/rounding.ts';
import { vectorsOf } from './support/rows.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type Chosen, type Dims, type KernelModule, type Specialisation } from './spec.ts';

const { cache: _cache, ...SHARED_OPTIONS } = PREFILL_OPTIONS;
const OPTIONS = { ...SHARED_OPTIONS, type: ['f32', 'bf16', 'f16'] } as const;
type Options = Chosen<typeof OPTIONS>;

const WARPS = 4;
const THREADS = 32 * WARPS;
/** Keys of a tile, which begins at a multiple of that: one for each lane. */
const TILE = 32;

const BOUND = bound(
  2048,
  'a score is a chain of up to 256 products, and errs by roundings of their magnitudes, as large as its own; ' +
    'sums are chains over keys, all in float32',
);

/**
 * Attention in float32 on plain multiply-adds, for what the tensor cores' kernels do not take: float32 (the exactness
 * mode), and heads of any multiple of 4 up to 256. Prompts and answers alike; parameters are those of `attention_prefill`.
 *
 * A row is a token and one of the query heads of a key head. A warp has a few of them; its lanes are the keys of a tile
 * where scores are computed, and the elements of a head where values are weighed. A row's score is the sum of its products in
 * ascending order; its sums go over tiles at multiples of 32 tokens, and over a tile's keys, in ascending order. A tile that
 * it does not see changes nothing of it. So its bits depend on what it sees alone.
 */
const attentionRows: KernelModule = defineKernel({
  name: 'attention_rows',
  summary: 'y = softmax(scale q k) v for each query and head, over the keys that it sees, in float32',
  dims: PREFILL_DIMS,
  options: OPTIONS,
  tuning: {},
  refuse: ({ dims }) => {
    const { head } = dims;
    if (head % 4 !== 0 || head > 256) return `heads of ${head} elements are not had: multiples of 4 up to 256 are`;
    return sizesRefused(dims);
  },
  choose: () => ({}),
  args: argumentsOf,
  trace: record,
  grid: ({ dims }) => {
    const { tokens, qHeads, kvHeads, sequences, head } = dims;
    return [Math.ceil((tokens * qHeads) / kvHeads / (WARPS * warpRows(head))), kvHeads, sequences];
  },
  reference: (given, dims, options) => prefillReference(given, dims, whole(options)),
  roofline: (dims, options) => prefillRoofline(dims, whole(options)),
  cases: [
    { dims: { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: 2, kvHeads: 1, head: 16 } },
    { dims: { sequences: 2, tokens: 37, longest: 83, shortest: 47, qHeads: 3, kvHeads: 1, head: 32 } },
    {
      dims: { sequences: 2, tokens: 17, longest: 65, shortest: 17, qHeads: 1, kvHeads: 1, head: 32 },
      options: { layout: 'rows', mask: 'bidirectional', type: 'bf16' },
    },
    {
      dims: { sequences: 2, tokens: 9, longest: 70, shortest: 33, qHeads: 4, kvHeads: 2, head: 80 },
      options: { window: true, cap: true, sinks: true, type: 'f16' },
    },
    {
      dims: { sequences: 1, tokens: 30, longest: 30, shortest: 30, qHeads: 2, kvHeads: 2, head: 8 },
      options: { layout: 'rows', mask: 'bidirectional', window: true },
    },
    {
      dims: { sequences: 1, tokens: 3, longest: 67, shortest: 67, qHeads: 2, kvHeads: 1, head: 256 },
      options: { sinks: true },
    },
    {
      dims: { sequences: 1, tokens: 5, longest: 40, shortest: 40, qHeads: 2, kvHeads: 1, head: 20 },
      options: { type: 'bf16' },
    },
    {
      dims: { sequences: 1, tokens: 5, longest: 40, shortest: 40, qHeads: 1, kvHeads: 1, head: 136 },
      options: { type: 'bf16' },
    },
    {
      dims: { sequences: 64, tokens: 512, longest: 512, shortest: 512, qHeads: 12, kvHeads: 12, head: 32 },
      options: { layout: 'rows', mask: 'bidirectional', type: 'bf16' },
      large: true,
    },
    {
      dims: { sequences: 4, tokens: 1024, longest: 1024, shortest: 1024, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 8, tokens: 1, longest: 4096, shortest: 1024, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    { dims: { sequences: 2, tokens: 300, longest: 900, shortest: 300, qHeads: 8, kvHeads: 4, head: 256 }, large: true },
  ],
});

export default attentionRows;

/** With what it has no choice of. */
function whole(options: Options): RowsOptions {
  return { ...options, cache: 'same' };
}

function argumentsOf(dims: Dims, options: Options): PrefillArgs {
  return prefillArgs(dims, whole(options), BOUND);
}

/** Rows of a warp: what registers and shared memory hold. */
function warpRows(head: number): number {
  return head > 128 ? 4 : 8;
}

/** Who weighs which values: `lanes` lanes have a row's head in pieces of four elements, `slots` each, and `rows` rows. */
function shareOf(head: number): { readonly lanes: number; readonly slots: number; readonly rows: number } {
  const pieces = head / 4;
  const lanes = Math.min(32, Math.max(32 / warpRows(head), 2 ** Math.ceil(Math.log2(pieces))));
  return { lanes, slots: Math.ceil(pieces / lanes), rows: (warpRows(head) * lanes) / 32 };
}

function record({ dims, options }: Specialisation<typeof OPTIONS>): KernelIR {
  const { head, kvHeads } = dims;
  const group = dims.qHeads / kvHeads;
  const own = warpRows(head);
  const blockRows = WARPS * own;
  const stored = TYPE_TOKENS[options.type];
  const unit = bytesOf(options.type, 1);
  // What is loaded at once: 16 bytes, or 8 where rows of 16-bit elements have no more in common.
  const bytes = (head * unit) % 16 === 0 ? 16 : 8;
  const vector = bytes / unit;
  const chunks = head / vector;
  // An odd number of chunks from row to row, so that neighbouring rows lie in different banks.
  const pitch = (chunks + 1 - (chunks % 2)) * vector;
  const share = shareOf(head);
  const pieces = head / 4;

  return traceKernel(
    'attention_rows',
    argumentsOf(dims, options),
    THREADS,
    (t: PrefillTensors) => {
      'use gpu';
      const [kvHead, sequence] = [bidY(), bidZ()];
      // Blocks that see most begin first.
      const first = (gdim() - 1 - bid()) * blockRows;
      const tokensOfBlock = Math.ceil((blockRows - 1) / group) + 1;
      const block = queryBlock(t, sequence, idiv(first, group), tokensOfBlock, TILE, options.mask);
      const rows = block.count * group;
      if (first >= rows) return;
      const [lane, warp] = [laneId(), warpId()];
      const tableStart = t.tableStarts === undefined ? i32(0) : t.tableStarts[sequence];

      const tileOf = (name: string): Tensor => shared(stored, makeLayout([TILE, head], [pitch, 1]), { name });
      const [keysTile, valuesTile] = [tileOf('keys'), tileOf('values')];
      const fetch = (cache: Tensor, to: Tensor, number: i32): void => {
        'use gpu';
        if (number < block.to) {
          for (const chunk of range(tid(), TILE * chunks, THREADS)) {
            const row = idiv(chunk, chunks);
            const at = number * TILE + row;
            // Tokens behind the sequence's end are zeros: what lies there may be no numbers.
            const known = min(at, block.length - 1);
            const from = t.table
              ? cache(t.table[tableStart + (known >> 4)], kvHead, known & 15, _)
              : cache(t.starts![sequence] + known, kvHead, _);
            const column = chunk - row * chunks;
            const read = select(at < block.length, bytes, 0);
            cpAsync(to(row, column * vector), vectorsOf(from, vector)(0, column), { bytes, read });
          }
        }
        cpAsyncCommit();
      };
      fetch(t.keys, keysTile, block.from);
      fetch(t.values, valuesTile, block.from);

      /** Row and query head of one of the block's rows; those behind the last are the last once more. */
      const placeOf = (row: i32): { readonly token: i32; readonly h: i32 } => {
        'use gpu';
        const known = min(row, rows - 1);
        const token = idiv(known, group);
        return { token, h: kvHead * group + (known - token * group) };
      };
      const queries = shared(f32, makeLayout([blockRows, head], [head, 1]), { name: 'queries' });
      for (const chunk of range(tid(), blockRows * chunks, THREADS)) {
        const row = idiv(chunk, chunks);
        const { token, h } = placeOf(first + row);
        const from = vectorsOf(t.q(block.start + token, _), vector)(_, h * chunks + (chunk - row * chunks));
        vectorsOf(queries(row, _), vector)(_, chunk - row * chunks).store(from.load().to(f32));
      }

      // This warp's rows: the positions of their tokens, and what they see together.
      const mine = first + warp * own;
      const lowest = block.length - block.count;
      const positions = Array.from({ length: own }, (_none, r) => lowest + placeOf(mine + r).token);
      const seesSome = (at: i32): boolean => {
        'use gpu';
        const live = mine < rows && (options.mask === 'causal' ? at <= positions[own - 1] : true);
        if (t.window === undefined) return live;
        const near = live && at + TILE - 1 > positions[0] - t.window;
        return options.mask === 'causal' ? near : near && at < positions[own - 1] + t.window;
      };

      const factor = options.cap ? f32(1) : t.scale * Math.LOG2E;
      const twice = t.cap === undefined ? f32(0) : (2 * Math.LOG2E * t.scale) / t.cap;
      const cap = t.cap === undefined ? f32(0) : t.cap * Math.LOG2E;
      const tops = fragment('f32', own).map(() => f32(-Infinity));
      const totals = fragment('f32', own);
      const sums = fragment('f32', share.rows * share.slots * 4);
      const powersTile = shared(f32, makeLayout([WARPS, TILE, own], [TILE * own, own, 1]), { name: 'powers' });
      // What all lanes know of each row, for those that have the row's values.
      const factors = shared(f32, makeLayout([WARPS, own], [own, 1]), { name: 'factors' });
      const firstOwn = idiv(lane, share.lanes) * share.rows;
      const ofOwn = (from: Tensor): Fragment => {
        'use gpu';
        return vectorsOf(from, share.rows)(_, idiv(lane, share.lanes)).load();
      };
      const laneOfRow = lane & (share.lanes - 1);
      const pieceOf = (slot: number): i32 => laneOfRow + slot * share.lanes;

      for (const number of range(block.from, block.to)) {
        cpAsyncWait(1);
        sync();
        const at = number * TILE + lane;
        const scores = fragment('f32', own);
        if (seesSome(number * TILE)) {
          for (const chunk of range(0, chunks, 1, { unroll: 2 })) {
            const key = vectorsOf(keysTile(lane, _), vector)(_, chunk).load().to(f32);
            for (let r = 0; r < own; r++) {
              const query = vectorsOf(queries(warp * own + r, _), vector)(_, chunk).load();
              for (let e = 0; e < vector; e++) scores[r] = fma(query[e], key[e], scores[r]);
            }
          }
        }
        sync();
        fetch(t.keys, keysTile, number + 1);
        if (seesSome(number * TILE)) {
          const rescale: f32[] = [];
          const powers: f32[] = [];
          for (let r = 0; r < own; r++) {
            const seen = sees(t, block, options.mask, positions[r], at);
            const score = select(seen, options.cap ? cappedScore(scores[r], twice, cap) : scores[r], f32(-Infinity));
            let largest = score;
            for (let distance = 16; distance >= 1; distance /= 2) largest = max(largest, shuffleXor(largest, distance));
            const top = max(tops[r], largest);
            // Where nothing was seen yet, -Infinity minus itself would be NaN.
            const base = select(top === -Infinity, f32(0), top);
            rescale.push(ex2((tops[r] - base) * factor));
            powers.push(ex2(fma(score, factor, -(base * factor))));
            tops[r] = top;
            totals[r] = fma(totals[r], rescale[r], powers[r]);
          }
          powersTile(warp, lane, _).store(new Fragment(powers, 'f32'));
          if (lane === 0) factors(warp, _).store(new Fragment(rescale, 'f32'));
          syncWarp();
          const before = ofOwn(factors(warp, _));
          for (let v = 0; v < sums.length; v++) sums[v] *= before[Math.floor(v / (4 * share.slots))];
        }
        cpAsyncWait(1);
        sync();
        if (seesSome(number * TILE)) {
          for (const key of range(0, TILE, 1, { unroll: 4 })) {
            const weights = ofOwn(powersTile(warp, key, _));
            for (let slot = 0; slot < share.slots; slot++) {
              const value = vectorsOf(valuesTile(key, _), 4)(_, min(pieceOf(slot), pieces - 1))
                .load()
                .to(f32);
              for (let r = 0; r < share.rows; r++) {
                for (let e = 0; e < 4; e++) {
                  const v = (r * share.slots + slot) * 4 + e;
                  sums[v] = fma(weights[r], value[e], sums[v]);
                }
              }
            }
          }
        }
        sync();
        fetch(t.values, valuesTile, number + 1);
      }
      cpAsyncWait(0);

      const lasts: f32[] = [];
      for (let r = 0; r < own; r++) {
        let total = totals[r];
        for (let distance = 16; distance >= 1; distance /= 2) total += shuffleXor(total, distance);
        lasts.push(lastFactor(t, tops[r] * factor, total, placeOf(mine + r).h, f32(1)));
      }
      if (lane === 0) factors(warp, _).store(new Fragment(lasts, 'f32'));
      syncWarp();
      const last = ofOwn(factors(warp, _));
      for (let r = 0; r < share.rows; r++) {
        const row = mine + firstOwn + r;
        const { token, h } = placeOf(row);
        for (let slot = 0; slot < share.slots; slot++) {
          if (row < rows && pieceOf(slot) < pieces) {
            const from = (r * share.slots + slot) * 4;
            // Adding 0 makes -0 a 0: a row's zeros are the same however many tiles it met without seeing them.
            const values = [0, 1, 2, 3].map((e) => fma(sums[from + e], last[r], f32(0)));
            const to = vectorsOf(t.y(block.start + token, _), 4)(_, h * pieces + pieceOf(slot));
            to.store(new Fragment(values, 'f32').to(t.y.type));
          }
        }
      }
    },
    { minBlocks: 3 },
  );
}
