import {
  bid,
  e4m3,
  f32,
  fma,
  Fragment,
  gridDependencyWait,
  gridLaunchDependents,
  idiv,
  min,
  rsqrt,
  select,
  shuffleXor,
  tid,
  _,
  i32,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { early } from './support/early.ts';
import { sumOfSquares, vectorsOf } from './support/rows.ts';
import { cacheType } from './support/attention.ts';
import { PAGE } from './support/page.ts';
import { saturated } from './support/reference.ts';
import { traceKernel } from './support/trace.ts';
import { APPROXIMATION, bound, SUM_DEPTH } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import {
  defineKernel,
  distinct,
  input,
  integers,
  normal,
  output,
  scalar,
  updated,
  type Dims,
  type Fill,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const ROTATED = bound(
  SUM_DEPTH / 2 + APPROXIMATION.rsqrt + 8,
  'as rmsnorm, then two products and an addition; the magnitude is that of both elements of the pair',
);

const STORED = bound(1, 'a quotient by the scale');

const OPTIONS = {
  type: ['bf16', 'f16', 'f32'],
  /** Keys and values in the cache: as they are, or of 8 bits, each key head's divided by its scale. */
  cache: ['same', 'e4m3'],
  norm: [true, false],
  weight: ['plain', 'plus_one'],
  layout: ['neox', 'interleaved'],
} as const;
/** `turns`: heads of a token that a thread has a part of, one after the other, with the same angles and weights. */
const TUNING = { threads: [128, 256], turns: [1, 2, 4, 8] } as const;

/**
 * From the rows of the QKV product to attention's inputs, in one pass: RMSNorm of every query and key head (Qwen3),
 * rotary position embedding (Su et al. 2021) of the first `rotary` elements of a head (none where that size is absent: models
 * with learned positions), queries out, keys and values into the pages of the cache.
 *
 * A row of `qkv` has the query heads, the key heads, the value heads. `layout`: `neox` pairs element i with i +
 * rotary / 2, `interleaved` 2i with 2i + 1. `table[p]` has the cosines of position p for its rotary / 2 angles, then the
 * sines. `slot` is page * 16 + place in the page; negative: the token is not kept (padding). A page holds [kv head][16
 * tokens][head] for keys, and in another tensor for values. A cache of e4m3 has a float32 scale for each key head, of keys
 * and of values, by which attention multiplies: what is stored is the quotient, rounded once, and beyond 448 it is 448.
 * All but `qkv` is read early (`early`): the kernels before it must not write it.
 */
const qkRopeCache: KernelModule = defineKernel({
  name: 'qk_rope_cache',
  summary: 'q, k = rope(norm(q), position), rope(norm(k), position); k and v go to their places in the paged cache',
  dims: {
    tokens: 'tokens',
    qHeads: 'query heads',
    kvHeads: 'key and value heads',
    head: 'elements of a head',
    pages: 'pages of the cache',
  },
  optionalDims: { rotary: 'elements of a head that are rotated', positions: 'rows of the table of angles' },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { head, rotary, positions, qHeads, kvHeads } }) => {
    if (head % 4 !== 0 || head > 256 || (head > 128 && head % 8 !== 0)) {
      return `heads of ${head} elements are not had: multiples of 8 up to 256 are, and of 4 up to 128`;
    }
    if ((rotary === undefined) !== (positions === undefined)) return 'rotary and positions are given both or neither';
    const step = head > 128 ? 8 : 4;
    if (rotary !== undefined && (rotary > head || rotary % step !== 0)) {
      return `rotary is ${rotary}; it must be a multiple of ${step} up to ${head}, or absent`;
    }
    return qHeads % kvHeads === 0 ? undefined : `${qHeads} query heads do not divide among ${kvHeads} key heads`;
  },
  choose: ({ tokens }) => ({ threads: 128, turns: tokens > 512 ? 4 : 2 }),
  tables: {
    version: 2,
    key: ({ tokens, qHeads, kvHeads, head, rotary = 0 }, options) => {
      return { ...options, tokens: rowBucket(tokens), qHeads, kvHeads, head, rotary };
    },
  },
  args: ({ tokens, qHeads, kvHeads, head, rotary, positions, pages }, options) => {
    const { type, norm, weight } = options;
    const weights = normal(0.3, weight === 'plain' ? 1 : 0);
    const narrow = options.cache === 'e4m3';
    // So small that some elements are beyond e4m3.
    const scales = input('f32', [kvHeads], normal(0.0005, 0.005));
    return {
      qkv: input(type, [tokens, (qHeads + 2 * kvHeads) * head]),
      ...(norm ? { qWeight: input(type, [head], weights), kWeight: input(type, [head], weights) } : {}),
      ...(rotary === undefined ? {} : { table: input('f32', [positions, 2, rotary / 2], angles(rotary / 2)) }),
      ...(rotary === undefined ? {} : { positions: input('i32', [tokens], integers(positions)) }),
      slots: input('i32', [tokens], slots(pages * PAGE)),
      ...(narrow ? { keyScale: scales, valueScale: scales } : {}),
      q: output(type, [tokens, qHeads * head], ROTATED),
      keys: updated(cacheType(options), [pages, kvHeads, PAGE, head], ROTATED),
      values: updated(cacheType(options), [pages, kvHeads, PAGE, head], narrow ? STORED : undefined),
      eps: scalar('f32', 1e-6),
      tokens: scalar('i32', tokens),
    };
  },
  trace: record,
  grid: ({ dims, options, tuning: { threads, turns } }) => [
    Math.ceil((dims.tokens * groupsOf(dims, turns) * lanesOf(dims, options)) / threads),
    1,
    1,
  ],
  reference: (given, { tokens, qHeads, kvHeads, head, rotary = 0 }, options) => {
    const { qkv, qWeight, kWeight, keyScale, valueScale, table, positions, slots, eps } = given;
    const rowLength = (qHeads + 2 * kvHeads) * head;
    const q = { values: new Float64Array(tokens * qHeads * head), magnitude: new Float64Array(tokens * qHeads * head) };
    const keys = { values: given.keys.slice(), magnitude: given.keys.map(Math.abs) };
    const values = given.values.slice();
    const half = rotary / 2;

    const rotate = (
      from: Float64Array,
      weight: Float64Array | undefined,
      token: number,
      to: typeof q,
      at: number,
    ): void => {
      const r = weight ? 1 / Math.sqrt(from.reduce((sum, v) => sum + v * v, 0) / head + eps) : 1;
      const one = options.weight === 'plus_one' ? 1 : 0;
      const x = from.map((v, i) => v * r * (weight ? weight[i] + one : 1));
      to.values.set(x, at);
      to.magnitude.set(x.map(Math.abs), at);
      if (!table || !positions) return;
      const angle = positions[token] * rotary;
      for (let i = 0; i < half; i++) {
        const [a, b] = options.layout === 'neox' ? [i, i + half] : [2 * i, 2 * i + 1];
        const [cos, sin] = [table[angle + i], table[angle + half + i]];
        to.values[at + a] = x[a] * cos - x[b] * sin;
        to.values[at + b] = x[b] * cos + x[a] * sin;
        to.magnitude[at + a] = Math.abs(x[a] * cos) + Math.abs(x[b] * sin);
        to.magnitude[at + b] = Math.abs(x[b] * cos) + Math.abs(x[a] * sin);
      }
    };
    for (let token = 0; token < tokens; token++) {
      for (let h = 0; h < qHeads + 2 * kvHeads; h++) {
        const from = qkv.subarray(token * rowLength + h * head, token * rowLength + (h + 1) * head);
        if (h < qHeads) {
          rotate(from, qWeight, token, q, (token * qHeads + h) * head);
          continue;
        }
        const slot = slots[token];
        if (slot < 0) continue;
        const kvHead = (h - qHeads) % kvHeads;
        const at = ((Math.floor(slot / PAGE) * kvHeads + kvHead) * PAGE + (slot % PAGE)) * head;
        const isKey = h < qHeads + kvHeads;
        if (isKey) rotate(from, kWeight, token, keys, at);
        else values.set(from, at);
        const scale = isKey ? keyScale : valueScale;
        if (!scale) continue;
        for (let i = at; i < at + head; i++) {
          if (isKey) keys.magnitude[i] /= scale[kvHead];
          const stored = isKey ? keys.values : values;
          stored[i] = saturated(stored[i] / scale[kvHead]);
        }
      }
    }
    return { q, keys, values };
  },
  roofline: ({ tokens, qHeads, kvHeads, head, rotary = 0, positions = 0 }, options) => ({
    bytes:
      bytesOf(options.type, 2 * tokens * (qHeads + kvHeads) * head) +
      bytesOf(cacheType(options), 2 * tokens * kvHeads * head) +
      bytesOf('f32', Math.min(tokens, positions) * rotary) +
      bytesOf('i32', (rotary === 0 ? 1 : 2) * tokens),
    flops: tokens * (qHeads + kvHeads) * (4 * head + 3 * rotary),
  }),
  cases: [
    { dims: { tokens: 1, qHeads: 4, kvHeads: 1, head: 64, rotary: 64, positions: 9, pages: 2 } },
    { dims: { tokens: 5, qHeads: 4, kvHeads: 2, head: 128, rotary: 128, positions: 32, pages: 3 } },
    {
      dims: { tokens: 3, qHeads: 2, kvHeads: 1, head: 128, rotary: 48, positions: 32, pages: 3 },
      options: { weight: 'plus_one' },
    },
    {
      dims: { tokens: 7, qHeads: 2, kvHeads: 2, head: 64, rotary: 24, positions: 32, pages: 3 },
      options: { layout: 'interleaved' },
    },
    {
      dims: { tokens: 2, qHeads: 2, kvHeads: 1, head: 256, rotary: 64, positions: 32, pages: 3 },
      options: { norm: false, type: 'f16' },
    },
    {
      dims: { tokens: 5, qHeads: 4, kvHeads: 2, head: 64, rotary: 64, positions: 32, pages: 3 },
      options: { cache: 'e4m3' },
    },
    {
      dims: { tokens: 5, qHeads: 2, kvHeads: 1, head: 96, rotary: 96, positions: 32, pages: 3 },
      options: { type: 'f32' },
    },
    {
      dims: { tokens: 3, qHeads: 3, kvHeads: 1, head: 80, rotary: 40, positions: 32, pages: 3 },
      options: { type: 'f16', weight: 'plus_one' },
    },
    { dims: { tokens: 3, qHeads: 2, kvHeads: 2, head: 24, pages: 3 }, options: { norm: false } },
    {
      dims: { tokens: 8192, qHeads: 32, kvHeads: 8, head: 128, rotary: 128, positions: 32768, pages: 1024 },
      large: true,
    },
  ],
});

export default qkRopeCache;

interface Tensors {
  readonly qkv: Tensor;
  readonly qWeight?: Tensor;
  readonly kWeight?: Tensor;
  readonly keyScale?: Tensor<f32>;
  readonly valueScale?: Tensor<f32>;
  readonly table?: Tensor;
  readonly positions?: Tensor;
  readonly slots: Tensor;
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly eps: f32;
  readonly tokens: i32;
}

/** Pairs of a head that a thread has, each of which turns by an angle of its own: four, or two where sizes do not divide. */
function pairsOf({ head, rotary = 0 }: Dims): number {
  return head % 8 === 0 && rotary % 8 === 0 ? 4 : 2;
}

/** Threads of a head; those that reduce it together are a power of two, of which the last may have nothing. */
function lanesOf(dims: Dims, { norm }: { readonly norm: boolean }): number {
  const lanes = dims.head / (2 * pairsOf(dims));
  return norm ? 2 ** Math.ceil(Math.log2(lanes)) : lanes;
}

/** A token's heads divided by `turns`: head g, g + groups, ... are those of a group of threads. */
function groupsOf({ qHeads, kvHeads }: Dims, turns: number): number {
  return Math.ceil((qHeads + 2 * kvHeads) / turns);
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { qHeads, kvHeads, head, rotary = 0 } = dims;
  const { threads, turns } = tuning;
  const heads = qHeads + 2 * kvHeads;
  const groups = groupsOf(dims, turns);
  const lanes = lanesOf(dims, options);
  const pairs = pairsOf(dims);
  const vectors = head / (2 * pairs);
  const turning = rotary / (2 * pairs);
  const body = (t: Tensors): void => {
    'use gpu';
    const at = bid() * threads + tid();
    const wanted = idiv(at, lanes);
    const own = at - wanted * lanes;
    const lane = min(own, vectors - 1);
    const item = min(wanted, t.tokens * groups - 1);
    const token = idiv(item, groups);
    const group = item - token * groups;
    const place = new PlaceInHead(pairs, options.layout === 'neox' ? turning : 0, lane);
    const slot = early(t.slots(token));
    const weights = t.qWeight && t.kWeight && [t.qWeight, t.kWeight].map((w) => place.load(w, 0));
    const turned = min(lane, turning - 1);
    const position = t.positions === undefined ? i32(0) : early(t.positions(token));
    const angles = t.table && [0, 1].map((which) => vectorsOf(t.table!(position, which, _), pairs)(_, turned).load());
    gridDependencyWait();
    const all = Array.from({ length: turns }, (_none, turn) => {
      'use gpu';
      const h = group + turn * groups;
      const even = (turn + 1) * groups <= heads;
      // Where heads do not divide, the last one is loaded several times.
      const raw = place.load(t.qkv(token, _), (even ? h : min(h, heads - 1)) * vectors);
      return { h, raw, live: wanted < t.tokens * groups && own < vectors && (even || h < heads) };
    });
    gridLaunchDependents();
    for (const { h, raw, live } of all) {
      let x = raw.to(f32);
      if (weights) {
        let squares = select(own < vectors, sumOfSquares(x), f32(0));
        for (let distance = lanes / 2; distance >= 1; distance /= 2) squares += shuffleXor(squares, distance);
        const r = rsqrt(squares * (1 / head) + t.eps);
        x = x.map((e, i) => {
          const w = f32(h < qHeads ? weights[0][i] : weights[1][i]);
          return e * r * (options.weight === 'plus_one' ? w + 1 : w);
        });
      }
      if (live) {
        if (h < qHeads + kvHeads) {
          const rotated = angles ? rotate(x, angles, options.layout, lane < turning) : x;
          if (h < qHeads) place.store(t.q(token, _), h * vectors, rotated.to(t.q.type));
          else if (slot >= 0) {
            const kept = t.keyScale ? quotients(rotated, t.keyScale[h - qHeads]) : rotated.to(t.keys.type);
            place.store(t.keys(slot >> 4, h - qHeads, slot & (PAGE - 1), _), 0, kept);
          }
        } else if (slot >= 0) {
          const kvHead = h - qHeads - kvHeads;
          const kept = t.valueScale ? quotients(raw.to(f32), t.valueScale[kvHead]) : raw;
          place.store(t.values(slot >> 4, kvHead, slot & (PAGE - 1), _), 0, kept);
        }
      }
    }
  };
  return traceKernel('qk_rope_cache', qkRopeCache.args(dims, options), threads, body, { waits: true });
}

/**
 * A thread's pairs of elements of a head: neighbours, or, where element i turns with one half of the rotated elements further
 * on, as many neighbours of either half. Behind the rotated elements are neighbours.
 */
class PlaceInHead {
  private readonly pairs: number;
  private readonly apart: number;
  private readonly lane: i32;

  /** `apart`: how many threads have parts of two halves. */
  constructor(pairs: number, apart: number, lane: i32) {
    this.pairs = pairs;
    this.apart = apart;
    this.lane = lane;
  }

  /** `first`: threads' parts before the head in its row. */
  load<T>(row: Tensor<T>, first: i32): Fragment<T> {
    'use gpu';
    if (this.apart === 0) return vectorsOf(row, 2 * this.pairs)(_, first + this.lane).load();
    const [a, b] = this.halves(first).map((half) => vectorsOf(row, this.pairs)(_, half).load());
    return new Fragment([...a.values(), ...b.values()], row.type);
  }

  store<T>(row: Tensor<T>, first: i32, values: Fragment<T>): void {
    'use gpu';
    const { pairs } = this;
    if (this.apart === 0) {
      vectorsOf(row, 2 * pairs)(_, first + this.lane).store(values);
      return;
    }
    for (const [i, half] of this.halves(first).entries()) {
      const part = new Fragment(values.values().slice(pairs * i, pairs * (i + 1)), row.type);
      vectorsOf(row, pairs)(_, half).store(part);
    }
  }

  private halves(first: i32): readonly i32[] {
    'use gpu';
    const inside = this.lane < this.apart;
    return [0, 1].map((i) => 2 * first + select(inside, this.lane + i * this.apart, 2 * this.lane + i));
  }
}

/** What a cache of 8 bits keeps. */
function quotients(x: Fragment, scale: f32): Fragment {
  'use gpu';
  return x.map((e) => e / scale).to(e4m3);
}

/** Each pair by its angle, where `turned`. `angles`: cosines, sines. */
function rotate(
  x: Fragment,
  [cos, sin]: readonly Fragment[],
  layout: 'neox' | 'interleaved',
  turned: boolean,
): Fragment {
  'use gpu';
  const pairs = x.length / 2;
  return x.map((e, i) => {
    const [partner, pair, isFirst] =
      layout === 'neox' ? [(i + pairs) % x.length, i % pairs, i < pairs] : [i ^ 1, i >> 1, i % 2 === 0];
    const cross = x[partner] * sin[pair];
    const y = fma(e, cos[pair], isFirst ? -cross : cross);
    return select(turned, y, e);
  });
}

/** Cosines, then sines, of position * 10000^(-i / half). */
function angles(half: number): Fill {
  return (_random, length) =>
    Float64Array.from({ length }, (_, at) => {
      const [position, i] = [Math.floor(at / (2 * half)), at % half];
      const angle = position * 10000 ** (-i / half);
      return at % (2 * half) < half ? Math.cos(angle) : Math.sin(angle);
    });
}

/** Different places; the third token is not kept. */
function slots(places: number): Fill {
  return (random, length) => distinct(places)(random, length).map((slot, token) => (token === 2 ? -1 : slot));
}
