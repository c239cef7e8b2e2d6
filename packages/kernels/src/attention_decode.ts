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
  type KernelIR,
  type Tensor,
  type Word,
} from '@rose/cute';
import {
  attendRow,
  cacheType,
  cappedScore,
  HEADS,
  keyWords,
  MMA,
  quarterElements,
  seenBy,
  valueWords,
} from './support/attention.ts';
import { PAGE, pagesOf } from './support/page.ts';
import { decodeItems, splitTokens } from './support/decode-items.ts';
import { bound } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import { vectorsOf } from './support/rows.ts';
import {
  defineKernel,
  input,
  normal,
  output,
  scalar,
  values,
  type Chosen,
  type Dims,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const OPTIONS = {
  type: ['bf16', 'f16'],
  cache: ['same', 'e4m3'],
  window: [false, true],
  cap: [false, true],
} as const;
type Options = Chosen<typeof OPTIONS>;

/** Warps of a CTA: each takes every fourth page of a split, in its own softmax. */
const WARPS = 4;
/** Rows of a tile of scores: query tokens times the query heads of one key head. */
const ROWS = 16;
/** Shared memory of a CTA that tiles should fit in, so that two CTAs share a multiprocessor. */
const TILE_BYTES = 104 * 1024;

const SUMS = bound(
  2 ** 15 + 4096,
  'powers are rounded to 16 bits (8 of them in bf16) before they weigh values; scores err by float32',
);
const STATS = bound(
  4096,
  'scores are float32 sums of exact products; the largest errs by their rounding, the sum by that of its exponents',
);

/**
 * Attention of a few new tokens of many sequences over a paged cache: the part of one split, which `attention_combine`
 * puts together. A split is SPLIT tokens at an absolute place (`splitTokens`), so that a row's parts do not depend on what
 * else is in the batch, nor on how many tokens are asked at once.
 *
 * `rowStarts` says which rows of `q` are whose; the last of them is at position `lengths` - 1. `items` lists what is to be
 * done as (sequence, split); a negative sequence is nothing (`decodeItems` makes the list). A page is [kv head][16][head]
 * elements, as `qk_rope_cache` writes it; `table` has the pages of all sequences, those of each from `tableStarts` on, where
 * several may begin. `window`: a query at position p sees keys from p - window + 1 on. `cap`: scores are cap * tanh(scale * product / cap). Pages need not hold numbers behind a
 * sequence's length; elsewhere keys and values are finite.
 *
 * `o` is the sum of 2^(score - top) times values, `stats` (top, sum of powers), in powers of two: top is -Infinity where a
 * row sees nothing of the split. Cells of tokens that a sequence does not have are not written.
 */
const attentionDecode: KernelModule = defineKernel({
  name: 'attention_decode',
  summary:
    'for each split of the cache: sum of 2^(score - top) v, top and sum of 2^(score - top), score = log2(e) scale q k',
  dims: {
    sequences: 'sequences',
    tokens: 'most query tokens of a sequence, 1 to 8',
    longest: 'tokens of the longest sequence',
    shortest: 'tokens of the shortest sequence',
    qHeads: 'query heads',
    kvHeads: 'key and value heads',
    head: 'elements of a head',
  },
  options: OPTIONS,
  tuning: {},
  refuse: ({ dims: { tokens, qHeads, kvHeads, head, longest, shortest } }) => {
    if (!HEADS.includes(head)) return `heads of ${head} elements are not had: ${HEADS.join(', ')} are`;
    if (tokens > 8) return `${tokens} query tokens a sequence are too many: at most 8, more are for attention_prefill`;
    if (shortest < tokens || shortest > longest)
      return `the shortest sequence (${shortest}) lies between ${tokens} and ${longest}`;
    return qHeads % kvHeads === 0 ? undefined : `${qHeads} query heads do not divide among ${kvHeads} key heads`;
  },
  choose: () => ({}),
  args: argumentsOf,
  trace: record,
  grid: ({ dims, options }) => [caseOf(dims, options).items.length / 2, dims.kvHeads * rowTiles(dims), 1],
  reference: (given, dims, options) => {
    const { qHeads, kvHeads, head, tokens } = dims;
    const { items } = caseOf(dims, options);
    const cells = (items.length / 2) * tokens * qHeads;
    const o = { values: new Float64Array(cells * head).fill(NaN), magnitude: new Float64Array(cells * head) };
    const stats = { values: new Float64Array(cells * 2).fill(NaN), magnitude: new Float64Array(cells * 2) };
    const group = qHeads / kvHeads;
    const split = splitTokens(head);
    for (let item = 0; item < items.length / 2; item++) {
      const [sequence, part] = [given.items[2 * item], given.items[2 * item + 1]];
      if (sequence < 0) continue;
      const [start, end] = [given.rowStarts[sequence], given.rowStarts[sequence + 1]];
      for (let row = start; row < end; row++) {
        const position = given.lengths[sequence] - (end - row);
        const [from, to] = seenBy(position, options.window ? given.window : undefined);
        for (let h = 0; h < qHeads; h++) {
          const kvHead = Math.floor(h / group);
          const of = (cache: Float64Array, scale: number) => (at: number) => {
            const page = given.table[given.tableStarts[sequence] + Math.floor(at / PAGE)];
            const first = ((page * kvHeads + kvHead) * PAGE + (at % PAGE)) * head;
            return cache.subarray(first, first + head).map((v) => v * scale);
          };
          const q = given.q.subarray((row * qHeads + h) * head, (row * qHeads + h + 1) * head);
          const [keyScale, valueScale] = [given.keyScale?.[kvHead] ?? 1, given.valueScale?.[kvHead] ?? 1];
          const seen = [
            Math.max(from, part * split),
            Math.max(from, part * split, Math.min(to, (part + 1) * split)),
          ] as const;
          const cap = options.cap ? given.cap : undefined;
          const result = attendRow(q, of(given.keys, keyScale), of(given.values, valueScale), seen, given.scale, cap);
          const cell = (item * tokens + row - start) * qHeads + h;
          o.values.set(result.o, cell * head);
          o.magnitude.set(result.magnitude, cell * head);
          stats.values.set([result.top, result.sum], cell * 2);
          stats.magnitude.set([1 + Math.abs(result.top), result.sum], cell * 2);
        }
      }
    }
    return { o, stats };
  },
  roofline: (dims, options) => {
    const { lengths, rows, items } = caseOf(dims, options);
    const { qHeads, kvHeads, head, tokens } = dims;
    const keys = lengths.reduce((sum, length) => sum + length, 0);
    return {
      bytes:
        bytesOf(cacheType(options), 2 * keys * kvHeads * head) +
        bytesOf(options.type, rows * qHeads * head) +
        bytesOf('f32', (items.length / 2) * tokens * qHeads * (head + 2)),
      flops: 4 * keys * tokens * qHeads * head,
    };
  },
  cases: [
    { dims: { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: 4, kvHeads: 1, head: 64 } },
    { dims: { sequences: 3, tokens: 1, longest: 129, shortest: 15, qHeads: 8, kvHeads: 2, head: 128 } },
    {
      dims: { sequences: 2, tokens: 5, longest: 541, shortest: 127, qHeads: 4, kvHeads: 1, head: 64 },
      options: { type: 'f16', cap: true },
    },
    {
      dims: { sequences: 2, tokens: 8, longest: 83, shortest: 17, qHeads: 3, kvHeads: 1, head: 96 },
      options: { window: true },
    },
    {
      dims: { sequences: 2, tokens: 2, longest: 67, shortest: 16, qHeads: 2, kvHeads: 2, head: 64 },
      options: { cache: 'e4m3' },
    },
    { dims: { sequences: 2, tokens: 3, longest: 40, shortest: 7, qHeads: 4, kvHeads: 2, head: 32 } },
    {
      dims: { sequences: 32, tokens: 1, longest: 4096, shortest: 4096, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 128, tokens: 1, longest: 2048, shortest: 2048, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 1, tokens: 1, longest: 32768, shortest: 32768, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 32, tokens: 1, longest: 4096, shortest: 4096, qHeads: 32, kvHeads: 8, head: 128 },
      options: { cache: 'e4m3' },
      large: true,
    },
    {
      dims: { sequences: 8, tokens: 4, longest: 4096, shortest: 1024, qHeads: 16, kvHeads: 2, head: 256 },
      large: true,
    },
  ],
});

export default attentionDecode;

interface Case {
  readonly lengths: readonly number[];
  readonly rowStarts: readonly number[];
  readonly rows: number;
  readonly items: readonly number[];
}

/** Keys that a case's window lets a query see. */
const CASE_WINDOW = 21;

/** Sequences from the longest to the shortest, each with one query token fewer than the one before, in turns. */
function caseOf({ sequences, tokens, longest, shortest, head }: Dims, { window }: Pick<Options, 'window'>): Case {
  const step = (longest - shortest) / Math.max(1, sequences - 1);
  const lengths = Array.from({ length: sequences }, (_none, s) => longest - Math.floor(s * step));
  const rowStarts = [0];
  for (let s = 0; s < sequences; s++) rowStarts.push(rowStarts[s] + tokens - (s % tokens));
  const counts = lengths.map((_none, s) => rowStarts[s + 1] - rowStarts[s]);
  const list = decodeItems(lengths, counts, head, window ? CASE_WINDOW : undefined);
  return { lengths, rowStarts, rows: rowStarts[sequences], items: [...list.items, -1, 0] };
}

function argumentsOf(dims: Dims, options: Options) {
  const { sequences, tokens, qHeads, kvHeads, head } = dims;
  const { lengths, rowStarts, rows, items } = caseOf(dims, options);
  const { pages, table, tableStarts } = pagesOf(lengths);
  const stored = cacheType(options);
  const scales = input('f32', [kvHeads], normal(0.1, 1));
  return {
    q: input(options.type, [rows, qHeads * head]),
    keys: input(stored, [pages, kvHeads, PAGE, head]),
    values: input(stored, [pages, kvHeads, PAGE, head]),
    ...(options.cache === 'e4m3' ? { keyScale: scales, valueScale: scales } : {}),
    table,
    tableStarts,
    rowStarts: input('i32', [sequences + 1], values(rowStarts)),
    lengths: input('i32', [sequences], values(lengths)),
    items: input('i32', [items.length / 2, 2], values(items)),
    o: output('f32', [items.length / 2, tokens, qHeads, head], SUMS),
    stats: output('f32', [items.length / 2, tokens, qHeads, 2], STATS),
    scale: scalar('f32', 1 / Math.sqrt(head)),
    ...(options.cap ? { cap: scalar('f32', 5) } : {}),
    ...(options.window ? { window: scalar('i32', CASE_WINDOW) } : {}),
  };
}

interface Tensors {
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

/** Tiles of 16 rows of scores for each key head. */
function rowTiles({ tokens, qHeads, kvHeads }: Dims): number {
  return Math.ceil((tokens * qHeads) / kvHeads / ROWS);
}

/** Pages that a warp has under way or at work. */
function stagesOf(head: number, options: Options): number {
  const page = 2 * PAGE * (bytesOf(cacheType(options), head) + 16);
  return Math.min(4, Math.max(2, Math.floor(TILE_BYTES / (WARPS * page))));
}

function record({ dims, options }: Specialisation<typeof OPTIONS>): KernelIR {
  const { kvHeads, head, tokens: most } = dims;
  const group = dims.qHeads / kvHeads;
  const tiles = rowTiles(dims);
  const splitPages = splitTokens(head) / PAGE;
  const stages = stagesOf(head, options);
  const stored = TYPE_TOKENS[cacheType(options) as 'bf16'];
  const unit = bytesOf(stored.type, 1);
  // Rows are 16 bytes further apart than they are long: eight neighbouring ones lie in different banks.
  const pitch = head + 16 / unit;
  const products = { a: options.type, b: options.type, d: 'f32' } as const;

  return traceKernel('attention_decode', argumentsOf(dims, options), 32 * WARPS, (t: Tensors) => {
    'use gpu';
    const item = bid();
    const sequence = t.items(item, 0).load()[0];
    if (sequence < 0) return;
    const split = t.items(item, 1).load()[0];
    const kvHead = idiv(bidY(), tiles);
    const firstRow = (bidY() - kvHead * tiles) * ROWS;
    const start = t.rowStarts[sequence];
    const tokens = t.rowStarts[sequence + 1] - start;
    const length = t.lengths[sequence];
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
    const pageOfLane = t.table[t.tableStarts[sequence] + splitPage + min(wanted, end - 1)];

    const tileRows = WARPS * stages * PAGE;
    const pages = shared(stored, makeLayout([2, tileRows, head], [tileRows * pitch, pitch, 1]), { name: 'pages' });
    const [keysTile, valuesTile] = [pages(0, _, _), pages(1, _, _)];
    const chunks = (head * unit) / 16;
    const fetch = (turn: i32, stage: i32): void => {
      'use gpu';
      if (turn < turns) {
        const page = shuffleIndex(pageOfLane, turn);
        const left = length - (splitPage + mine + turn * WARPS) * PAGE;
        const [fromKeys, fromValues] = [t.keys, t.values].map((cache) =>
          vectorsOf(cache(page, kvHead, 0, _), 16 / unit),
        );
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
      const element =
        options.cache === 'same' ? 8 * n + 2 * quarter + e : 16 * (n >> 1) + (n & 1) + 4 * quarter + 2 * e;
      parts(warp, quad + 8 * ((v >> 1) & 1), _)[element] = sums[v];
    }
    sync();
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
      const token = idiv(firstRow + row, group);
      const h = kvHead * group + (firstRow + row - token * group);
      if (firstRow + row < tokens * group && token < most) {
        const scale = t.valueScale ? t.valueScale[kvHead] : f32(1);
        vectorsOf(t.o(item, token, h, _), 4)(_, vector).store(all.map((e) => e * scale));
        if (vector === 0) {
          t.stats(item, token, h, _)[0] = top;
          t.stats(item, token, h, _)[1] = total;
        }
      }
    }
  });
}
