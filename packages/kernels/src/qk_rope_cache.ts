import {
  bid,
  e4m3,
  f32,
  fma,
  idiv,
  laneId,
  min,
  rsqrt,
  shuffleIndex,
  shuffleXor,
  tid,
  _,
  type Fragment,
  type i32,
  type KernelIR,
  type Tensor,
} from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
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
  type: ['bf16', 'f16'],
  /** Keys and values in the cache: as they are, or of 8 bits, each key head's divided by its scale. */
  cache: ['same', 'e4m3'],
  norm: [true, false],
  weight: ['plain', 'plus_one'],
  layout: ['neox', 'interleaved'],
} as const;
const TUNING = { threads: [128, 256] } as const;

/**
 * From the rows of the QKV product to attention's inputs, in one pass: RMSNorm of every query and key head (Qwen3),
 * rotary position embedding (Su et al. 2021) of the first `rotary` elements of a head, queries out, keys and values into
 * the pages of the cache.
 *
 * A row of `qkv` has the query heads, the key heads, the value heads. `layout`: `neox` pairs element i with i +
 * rotary / 2, `interleaved` 2i with 2i + 1. `table[p]` has the cosines of position p for its rotary / 2 angles, then the
 * sines. `slot` is page * 16 + place in the page; negative: the token is not kept (padding). A page holds [kv head][16
 * tokens][head] for keys, and in another tensor for values. A cache of e4m3 has a float32 scale for each key head, of keys
 * and of values, by which attention multiplies: what is stored is the quotient, rounded once, and beyond 448 it is 448.
 */
const qkRopeCache: KernelModule = defineKernel({
  name: 'qk_rope_cache',
  summary: 'q, k = rope(norm(q), position), rope(norm(k), position); k and v go to their places in the paged cache',
  dims: {
    tokens: 'tokens',
    qHeads: 'query heads',
    kvHeads: 'key and value heads',
    head: 'elements of a head',
    rotary: 'elements of a head that are rotated',
    positions: 'rows of the table of angles',
    pages: 'pages of the cache',
  },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { head, rotary, qHeads, kvHeads }, options: { layout } }) => {
    if (![32, 64, 128, 256].includes(head)) return `heads of ${head} elements are not had: 32, 64, 128 or 256`;
    const step = layout === 'neox' ? 16 : 8;
    if (rotary > head || rotary % step !== 0)
      return `rotary is ${rotary}; it must be a multiple of ${step} up to ${head}`;
    return qHeads % kvHeads === 0 ? undefined : `${qHeads} query heads do not divide among ${kvHeads} key heads`;
  },
  choose: () => ({ threads: 128 }),
  tables: {
    key: ({ tokens, qHeads, kvHeads, head, rotary }, options) => {
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
      table: input('f32', [positions, 2, rotary / 2], angles(rotary / 2)),
      positions: input('i32', [tokens], integers(positions)),
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
  grid: ({ dims: { tokens, qHeads, kvHeads, head }, tuning: { threads } }) => [
    Math.ceil((tokens * (qHeads + 2 * kvHeads) * (head / 8)) / threads),
    1,
    1,
  ],
  reference: (given, { tokens, qHeads, kvHeads, head, rotary }, options) => {
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
  roofline: ({ tokens, qHeads, kvHeads, head, rotary, positions }, options) => ({
    bytes:
      bytesOf(options.type, 2 * tokens * (qHeads + kvHeads) * head) +
      bytesOf(cacheType(options), 2 * tokens * kvHeads * head) +
      bytesOf('f32', Math.min(tokens, positions) * rotary) +
      bytesOf('i32', 2 * tokens),
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
  readonly table: Tensor;
  readonly positions: Tensor;
  readonly slots: Tensor;
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly eps: f32;
  readonly tokens: i32;
}

/** Elements of a head that a thread has: 16 bytes. */
const VECTOR = 8;

function record({ dims, options, tuning: { threads } }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { qHeads, kvHeads, head, rotary } = dims;
  const heads = qHeads + 2 * kvHeads;
  const lanes = head / VECTOR;
  return traceKernel('qk_rope_cache', qkRopeCache.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const wanted = idiv(bid() * threads + tid(), lanes);
    const lane = tid() & (lanes - 1);
    const item = min(wanted, t.tokens * heads - 1);
    const token = idiv(item, heads);
    const h = item - token * heads;
    const raw = vectorsOf(t.qkv(token, _), VECTOR)(_, h * lanes + lane).load();
    const position = t.positions[token];
    const slot = t.slots[token];

    let x = raw.to(f32);
    if (t.qWeight && t.kWeight) {
      const [qw, kw] = [t.qWeight, t.kWeight].map((w) => vectorsOf(w, VECTOR)(_, lane).load().to(f32));
      let squares = sumOfSquares(x);
      for (let distance = lanes / 2; distance >= 1; distance /= 2) squares += shuffleXor(squares, distance);
      const r = rsqrt(squares * (1 / head) + t.eps);
      x = x.map((e, i) => {
        const w = h < qHeads ? qw[i] : kw[i];
        return e * r * (options.weight === 'plus_one' ? w + 1 : w);
      });
    }
    const angles = t.table(position, _, _);
    const rotated =
      options.layout === 'neox' ? rotateHalves(x, angles, lane, rotary) : rotatePairs(x, angles, lane, rotary);
    const y = rotated.to(t.q.type);
    if (wanted < t.tokens * heads) {
      if (h < qHeads) vectorsOf(t.q(token, _), VECTOR)(_, h * lanes + lane).store(y);
      else if (slot >= 0) {
        const page = slot >> 4;
        if (h < qHeads + kvHeads) {
          const kept = t.keyScale ? quotients(rotated, t.keyScale[h - qHeads]) : y;
          vectorsOf(t.keys(page, h - qHeads, slot & (PAGE - 1), _), VECTOR)(_, lane).store(kept);
        } else {
          const kvHead = h - qHeads - kvHeads;
          const kept = t.valueScale ? quotients(raw.to(f32), t.valueScale[kvHead]) : raw;
          vectorsOf(t.values(page, kvHead, slot & (PAGE - 1), _), VECTOR)(_, lane).store(kept);
        }
      }
    }
  });
}

/** What a cache of 8 bits keeps. */
function quotients(x: Fragment, scale: f32): Fragment {
  'use gpu';
  return x.map((e) => e / scale).to(e4m3);
}

/** Element i with i + rotary / 2, which another lane has. `angles`: (cosine or sine, angle). */
function rotateHalves(x: Fragment, angles: Tensor, lane: i32, rotary: number): Fragment {
  'use gpu';
  const apart = rotary / 2 / VECTOR;
  const first = lane < apart;
  const turned = lane < 2 * apart;
  const at = first ? lane : min(lane - apart, apart - 1);
  const cos = vectorsOf(angles(0, _), VECTOR)(_, at).load();
  const sin = vectorsOf(angles(1, _), VECTOR)(_, at).load();
  const other = turned ? (first ? laneId() + apart : laneId() - apart) : laneId();
  return x.map((e, i) => {
    const partner = shuffleIndex(e, other);
    const cross = partner * sin[i];
    const y = fma(e, cos[i], first ? -cross : cross);
    return turned ? y : e;
  });
}

/** Element 2i with 2i + 1. */
function rotatePairs(x: Fragment, angles: Tensor, lane: i32, rotary: number): Fragment {
  'use gpu';
  const turned = lane < rotary / VECTOR;
  const at = min(lane, rotary / VECTOR - 1);
  const cos = vectorsOf(angles(0, _), VECTOR / 2)(_, at).load();
  const sin = vectorsOf(angles(1, _), VECTOR / 2)(_, at).load();
  return x.map((e, i) => {
    const cross = x[i ^ 1] * sin[i >> 1];
    const y = fma(e, cos[i >> 1], i % 2 === 0 ? -cross : cross);
    return turned ? y : e;
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
