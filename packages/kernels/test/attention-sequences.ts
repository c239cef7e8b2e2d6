import { simulate } from '@rose/cute';
import assert from 'node:assert/strict';
import attentionCombine from '../src/attention_combine.ts';
import attentionDecode from '../src/attention_decode.ts';
import attentionPrefill from '../src/attention_prefill.ts';
import { specialise, type KernelModule, type Specialisation } from '../src/spec.ts';
import { attendRow, seenBy } from '../src/support/attention.ts';
import { decodeItems } from '../src/support/decode-items.ts';
import { PAGE } from '../src/support/page.ts';
import { seededRandom } from '../src/support/random.ts';
import { decode, encode } from '../src/support/storage.ts';

/** Sequences of random queries, keys and values, and attention over them through the kernels, in the simulator or elsewhere. */

export interface Shape {
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly head: number;
}

export interface Settings {
  readonly window?: number;
  readonly cap?: number;
  readonly sinks?: readonly number[];
  readonly mask?: 'causal' | 'bidirectional';
}

/** A whole sequence: bf16 bits of the queries [tokens][qHeads * head], keys and values [tokens][kvHeads][head]. */
export interface Sequence {
  readonly length: number;
  readonly q: Uint16Array;
  readonly keys: Uint16Array;
  readonly values: Uint16Array;
}

export function randomSequence({ qHeads, kvHeads, head }: Shape, length: number, seed: number): Sequence {
  const random = seededRandom(seed);
  const draw = (count: number): Uint16Array =>
    new Uint16Array(
      encode(
        'bf16',
        Float64Array.from({ length: count }, () => random.normal()),
      ).buffer,
    );
  const keys = draw(length * kvHeads * head);
  return { length, q: draw(length * qHeads * head), keys, values: draw(length * kvHeads * head) };
}

/** The last `count` of a sequence's first `length` tokens ask. */
export interface Asked {
  readonly sequence: Sequence;
  readonly length: number;
  readonly count: number;
}

interface PagedCache {
  readonly table: Int32Array;
  readonly tableStarts: Int32Array;
  readonly keys: Uint16Array;
  readonly values: Uint16Array;
}

/**
 * Pages in an order that `seed` decides, those of a sequence once, however often it asks; what no sequence wrote is no number.
 */
function pagedCache(asked: readonly Asked[], { kvHeads, head }: Shape, seed: number): PagedCache {
  const longest = new Map<Sequence, number>();
  for (const { sequence, length } of asked) longest.set(sequence, Math.max(length, longest.get(sequence) ?? 0));
  const begins = new Map<Sequence, number>();
  let entries = 0;
  for (const [sequence, length] of longest) {
    begins.set(sequence, entries);
    entries += Math.ceil(length / PAGE);
  }
  const pages = entries + 2;
  const random = seededRandom(seed);
  const order = Array.from({ length: pages }, (_none, page) => ({ page, key: random.uniform() }))
    .sort((a, b) => a.key - b.key)
    .map(({ page }) => page);
  const table = Int32Array.from(order.slice(0, entries));
  const caches = (['keys', 'values'] as const).map((which) => {
    const cache = new Uint16Array(pages * kvHeads * PAGE * head).fill(0xffff);
    for (const [sequence, length] of longest) {
      for (let at = 0; at < length; at++) {
        const page = table[begins.get(sequence)! + Math.floor(at / PAGE)];
        for (let h = 0; h < kvHeads; h++) {
          const from = (at * kvHeads + h) * head;
          cache.set(sequence[which].subarray(from, from + head), ((page * kvHeads + h) * PAGE + (at % PAGE)) * head);
        }
      }
    }
    return cache;
  });
  const tableStarts = Int32Array.from(asked.map(({ sequence }) => begins.get(sequence)!));
  return { table, tableStarts, keys: caches[0], values: caches[1] };
}

/** Rows of queries one after the other, and where each sequence's begin. */
function rowsOf(asked: readonly Asked[], { qHeads, head }: Shape): { q: Uint16Array; rowStarts: Int32Array } {
  const starts = [0];
  for (const { count } of asked) starts.push(starts.at(-1)! + count);
  const q = new Uint16Array(starts.at(-1)! * qHeads * head);
  for (const [s, { sequence, length, count }] of asked.entries()) {
    q.set(sequence.q.subarray((length - count) * qHeads * head, length * qHeads * head), starts[s] * qHeads * head);
  }
  return { q, rowStarts: Int32Array.from(starts) };
}

/** What runs the kernels, and which of them answers prompts. */
export interface Backend {
  readonly prefill: KernelModule;
  /** Numbers and bits by the names of parameters; outputs are written in place. */
  run(module: KernelModule, s: Specialisation, grid: readonly [number, number, number], args: BackendArgs): void;
}

export type BackendArgs = Readonly<Record<string, Uint16Array | Int32Array | Float32Array | number>>;

/** In the simulator, which must find nothing. */
export const SIMULATED: Backend = {
  prefill: attentionPrefill,
  run(module, s, grid, args) {
    const { findings } = simulate(module.trace(s), { grid, args });
    assert.deepEqual(
      findings.map(({ message }) => message),
      [],
    );
  },
};

/**
 * Bits of the results of `attention_decode` and `attention_combine`, a row of qHeads * head for each token asked. `whole`: the
 * former does both.
 */
export function decodeAttention(
  asked: readonly Asked[],
  shape: Shape,
  settings: Settings = {},
  seed = 1,
  backend: Backend = SIMULATED,
  whole = false,
): Uint16Array {
  const { qHeads, kvHeads, head } = shape;
  const longest = Math.max(...asked.map(({ length }) => length));
  const tokens = Math.max(...asked.map(({ count }) => count));
  const { q, rowStarts } = rowsOf(asked, shape);
  const lengths = Int32Array.from(asked.map(({ length }) => length));
  const counts = asked.map(({ count }) => count);
  const { items, starts } = decodeItems(lengths, counts, head, settings.window);
  const cells = (items.length / 2) * tokens * qHeads;
  const o = new Float32Array(cells * head).fill(NaN);
  const stats = new Float32Array(cells * 2).fill(NaN);
  const dims = { sequences: asked.length, tokens, longest, shortest: longest, qHeads, kvHeads, head };
  const { window, cap } = settings;
  const sinks = settings.sinks && { sinks: Float32Array.from(settings.sinks) };
  const options = { window: window !== undefined, cap: cap !== undefined, whole, sinks: whole && sinks !== undefined };
  const y = new Uint16Array(q.length).fill(0xffff);
  const tiles = kvHeads * Math.ceil((tokens * qHeads) / kvHeads / 16);
  const arrived = new Int32Array(asked.length * tiles);
  backend.run(attentionDecode, specialise(attentionDecode, { dims, options }), [items.length / 2, tiles, 1], {
    q,
    ...pagedCache(asked, shape, seed),
    ...{ rowStarts, lengths, items, o, stats, ...(whole ? { starts, ...sinks, arrived, y } : {}) },
    scale: 1 / Math.sqrt(head),
    ...(cap === undefined ? {} : { cap }),
    ...(window === undefined ? {} : { window }),
  });
  assert.ok(arrived.every((count) => count === 0));
  if (whole) return y;
  const combined = { sequences: asked.length, tokens, splits: 1, qHeads, head };
  backend.run(
    attentionCombine,
    specialise(attentionCombine, { dims: combined, options: { sinks: sinks !== undefined } }),
    [qHeads, tokens, asked.length],
    { o, stats, items, starts, rowStarts, ...sinks, y },
  );
  return y;
}

/** Bits of the results of `attention_prefill`, a row of qHeads * head for each token asked; without a seed from rows. */
export function prefillAttention(
  asked: readonly Asked[],
  shape: Shape,
  { window, cap, sinks, mask = 'causal' }: Settings = {},
  seed?: number,
  backend: Backend = SIMULATED,
): Uint16Array {
  const { qHeads, kvHeads, head } = shape;
  const longest = Math.max(...asked.map(({ length }) => length));
  const tokens = Math.max(...asked.map(({ count }) => count));
  const { q, rowStarts } = rowsOf(asked, shape);
  const y = new Uint16Array(q.length).fill(0xffff);
  const dims = { sequences: asked.length, tokens, longest, shortest: longest, qHeads, kvHeads, head };
  const options = {
    ...{ type: 'bf16', mask, window: window !== undefined, cap: cap !== undefined, sinks: sinks !== undefined },
    layout: seed === undefined ? 'rows' : 'paged',
  };
  const s = specialise(backend.prefill, { dims, options });
  backend.run(backend.prefill, s, backend.prefill.grid(s, { multiprocessors: 1 }), {
    q,
    ...(seed === undefined ? contiguous(asked, shape) : pagedCache(asked, shape, seed)),
    ...{ rowStarts, lengths: Int32Array.from(asked.map(({ length }) => length)), y, scale: 1 / Math.sqrt(head) },
    ...(cap === undefined ? {} : { cap }),
    ...(window === undefined ? {} : { window }),
    ...(sinks ? { sinks: Float32Array.from(sinks) } : {}),
  });
  return y;
}

interface Contiguous {
  readonly starts: Int32Array;
  readonly keys: Uint16Array;
  readonly values: Uint16Array;
}

/** Keys and values in rows; before and between the sequences are rows that are no numbers. */
function contiguous(asked: readonly Asked[], { kvHeads, head }: Shape): Contiguous {
  const starts = [3];
  for (const { length } of asked) starts.push(starts.at(-1)! + length + 5);
  const [keys, values] = (['keys', 'values'] as const).map((which) => {
    const all = new Uint16Array(starts.at(-1)! * kvHeads * head).fill(0xffff);
    for (const [s, { sequence, length }] of asked.entries()) {
      all.set(sequence[which].subarray(0, length * kvHeads * head), starts[s] * kvHeads * head);
    }
    return all;
  });
  return { starts: Int32Array.from(starts), keys, values };
}

/** Attention in float64 of the tokens asked, as numbers. */
export function expectedAttention(
  asked: readonly Asked[],
  shape: Shape,
  { window, cap, sinks, mask }: Settings = {},
): Float64Array {
  const { qHeads, kvHeads, head } = shape;
  const out: number[] = [];
  for (const { sequence, length, count } of asked) {
    const [q, keys, values] = [sequence.q, sequence.keys, sequence.values].map((bits) =>
      decode('bf16', new Uint8Array(bits.buffer)),
    );
    for (let position = length - count; position < length; position++) {
      for (let h = 0; h < qHeads; h++) {
        const kvHead = Math.floor((h * kvHeads) / qHeads);
        const of = (cache: Float64Array) => (at: number) =>
          cache.subarray((at * kvHeads + kvHead) * head, (at * kvHeads + kvHead + 1) * head);
        const row = q.subarray((position * qHeads + h) * head, (position * qHeads + h + 1) * head);
        const seen = seenBy(position, window, mask, length);
        const { top, sum, o } = attendRow(row, of(keys), of(values), seen, 1 / Math.sqrt(head), cap);
        const sink = sinks ? 2 ** (sinks[h] * Math.LOG2E - top) : 0;
        out.push(...o.map((e) => e / (sum + sink)));
      }
    }
  }
  return Float64Array.from(out);
}

/** ‖got - expected‖ / ‖expected‖ of bf16 bits. */
export function relativeError(got: Uint16Array, expected: Float64Array): number {
  const numbers = decode('bf16', new Uint8Array(got.buffer, got.byteOffset, got.byteLength));
  assert.equal(numbers.length, expected.length);
  let [error, size] = [0, 0];
  for (const [i, e] of expected.entries()) [error, size] = [error + (numbers[i] - e) ** 2, size + e ** 2];
  return Math.sqrt(error / size);
}
