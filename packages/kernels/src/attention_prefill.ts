import type { KernelIR } from '@rose/cute';
import { attendRow, cacheType, HEADS, seenBy } from './support/attention.ts';
import { PAGE } from './support/page.ts';
import { PREFILL_OPTIONS, prefillRefused, type PrefillOptions, type PrefillTensors } from './support/prefill.ts';
import { MMA_ROWS, MMA_THREADS, prefillByMma } from './support/prefill-mma.ts';
import { bound } from './support/rounding.ts';
import { bytesOf } from './support/storage.ts';
import { traceKernel } from './support/trace.ts';
import {
  defineKernel,
  distinct,
  input,
  normal,
  output,
  scalar,
  values,
  type Dims,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const BOUND = bound(
  2 ** 15 + 4096,
  'powers are rounded to 16 bits (8 of them in bf16) before they weigh values; scores err by float32',
);

/**
 * Attention of many queries of each sequence, the last of its tokens: prompts, chunks of prompts, texts to embed.
 *
 * `rowStarts` says which rows of `q` and `y` are whose; the last of them is at position `lengths` - 1. Keys and values are
 * in pages ([kv head][16][head] elements, `table` has a sequence's; as `qk_rope_cache` writes them), or in rows from
 * `starts` on. `causal`: a query at position p sees keys to p, with a `window` from p - window + 1 on; `bidirectional`: all
 * of its sequence, with a window those nearer than it. `cap`: scores are cap * tanh(scale * product / cap). `sinks`: a
 * logit for each query head that takes part in the sum and weighs nothing. Pages need not hold numbers behind a
 * sequence's length; elsewhere keys and values are finite.
 *
 * Tiles of keys begin at multiples of `tileTokens`, and a tile that a query does not see changes nothing of it: its bits
 * depend on what it sees alone, whatever the chunks, the batch and the pages are.
 */
const attentionPrefill: KernelModule = defineKernel({
  name: 'attention_prefill',
  summary: 'y = softmax(scale q k) v for each query and head, over the keys that it sees',
  dims: {
    sequences: 'sequences',
    tokens: 'most queries of a sequence',
    longest: 'tokens of the longest sequence',
    shortest: 'tokens of the shortest sequence',
    qHeads: 'query heads',
    kvHeads: 'key and value heads',
    head: 'elements of a head',
  },
  options: PREFILL_OPTIONS,
  tuning: {},
  refuse: ({ dims }) =>
    HEADS.includes(dims.head)
      ? prefillRefused(dims)
      : `heads of ${dims.head} elements are not had: ${HEADS.join(', ')} are`,
  choose: () => ({}),
  args: argumentsOf,
  trace: record,
  grid: ({ dims: { tokens, qHeads, sequences } }) => [Math.ceil(tokens / MMA_ROWS), qHeads, sequences],
  reference: (given, dims, options) => {
    const { qHeads, kvHeads, head, sequences } = dims;
    const { pagesEach } = caseOf(dims);
    const y = { values: new Float64Array(given.q.length), magnitude: new Float64Array(given.q.length) };
    for (let sequence = 0; sequence < sequences; sequence++) {
      const length = given.lengths[sequence];
      for (let row = given.rowStarts[sequence]; row < given.rowStarts[sequence + 1]; row++) {
        const position = length - (given.rowStarts[sequence + 1] - row);
        const seen = seenBy(position, options.window ? given.window : undefined, options.mask, length);
        for (let h = 0; h < qHeads; h++) {
          const kvHead = Math.floor((h * kvHeads) / qHeads);
          const of = (cache: Float64Array, scale: number) => (at: number) => {
            const place = given.table
              ? (given.table[sequence * pagesEach + Math.floor(at / PAGE)] * kvHeads + kvHead) * PAGE + (at % PAGE)
              : (given.starts![sequence] + at) * kvHeads + kvHead;
            return cache.subarray(place * head, (place + 1) * head).map((v) => v * scale);
          };
          const at = (row * qHeads + h) * head;
          const keys = of(given.keys, given.keyScale?.[kvHead] ?? 1);
          const cap = options.cap ? given.cap : undefined;
          const value = of(given.values, given.valueScale?.[kvHead] ?? 1);
          const { top, sum, o, magnitude } = attendRow(
            given.q.subarray(at, at + head),
            keys,
            value,
            seen,
            given.scale,
            cap,
          );
          const all = sum + (given.sinks ? 2 ** (given.sinks[h] * Math.LOG2E - top) : 0);
          for (let e = 0; e < head; e++) {
            y.values[at + e] = o[e] / all;
            y.magnitude[at + e] = magnitude[e] / all;
          }
        }
      }
    }
    return { y };
  },
  roofline: (dims, options) => {
    const { qHeads, kvHeads, head } = dims;
    const { lengths, rowStarts } = caseOf(dims);
    let pairs = 0;
    for (const [s, length] of lengths.entries()) {
      for (let position = length - (rowStarts[s + 1] - rowStarts[s]); position < length; position++) {
        const [from, to] = seenBy(position, options.window ? CASE_WINDOW : undefined, options.mask, length);
        pairs += to - from;
      }
    }
    const keys = lengths.reduce((sum, length) => sum + length, 0);
    return {
      bytes:
        bytesOf(cacheType(options), 2 * keys * kvHeads * head) +
        bytesOf(options.type, 2 * rowStarts[lengths.length] * qHeads * head),
      flops: 4 * pairs * qHeads * head,
    };
  },
  cases: [
    { dims: { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: 2, kvHeads: 1, head: 64 } },
    { dims: { sequences: 2, tokens: 67, longest: 150, shortest: 127, qHeads: 2, kvHeads: 1, head: 64 } },
    {
      dims: { sequences: 2, tokens: 17, longest: 129, shortest: 17, qHeads: 1, kvHeads: 1, head: 128 },
      options: { layout: 'rows', mask: 'bidirectional', type: 'f16' },
    },
    {
      dims: { sequences: 1, tokens: 15, longest: 83, shortest: 83, qHeads: 3, kvHeads: 1, head: 96 },
      options: { window: true, cap: true, sinks: true },
    },
    {
      dims: { sequences: 1, tokens: 70, longest: 70, shortest: 70, qHeads: 1, kvHeads: 1, head: 192 },
      options: { layout: 'rows', mask: 'bidirectional', window: true },
    },
    {
      dims: { sequences: 1, tokens: 16, longest: 67, shortest: 67, qHeads: 1, kvHeads: 1, head: 256 },
      options: { sinks: true },
    },
    {
      dims: { sequences: 1, tokens: 13, longest: 61, shortest: 61, qHeads: 2, kvHeads: 2, head: 64 },
      options: { cache: 'e4m3' },
    },
    {
      dims: { sequences: 1, tokens: 8192, longest: 8192, shortest: 8192, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 1, tokens: 2048, longest: 2048, shortest: 2048, qHeads: 32, kvHeads: 8, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 4, tokens: 1024, longest: 4096, shortest: 1024, qHeads: 16, kvHeads: 8, head: 256 },
      large: true,
    },
    {
      dims: { sequences: 4, tokens: 1024, longest: 4096, shortest: 1024, qHeads: 16, kvHeads: 8, head: 128 },
      options: { cache: 'e4m3', cap: true, window: true },
      large: true,
    },
  ],
});

export default attentionPrefill;

interface Case {
  readonly lengths: readonly number[];
  readonly rowStarts: readonly number[];
  readonly pagesEach: number;
}

/** Keys that a case's window lets a query see. */
const CASE_WINDOW = 21;

/** Sequences from the longest to the shortest, each with fewer queries than the one before. */
function caseOf({ sequences, tokens, longest, shortest }: Dims): Case {
  const step = (longest - shortest) / Math.max(1, sequences - 1);
  const lengths = Array.from({ length: sequences }, (_none, s) => longest - Math.floor(s * step));
  const rowStarts = [0];
  for (let s = 0; s < sequences; s++) rowStarts.push(rowStarts[s] + Math.max(1, tokens - 5 * s));
  return { lengths, rowStarts, pagesEach: Math.ceil(longest / PAGE) };
}

function argumentsOf(dims: Dims, options: PrefillOptions) {
  const { sequences, qHeads, kvHeads, head } = dims;
  const { lengths, rowStarts, pagesEach } = caseOf(dims);
  const pages = sequences * pagesEach + 1;
  const starts = [0];
  for (const length of lengths) starts.push(starts.at(-1)! + length);
  const paged = options.layout === 'paged';
  const cache = input(cacheType(options), paged ? [pages, kvHeads, PAGE, head] : [starts.at(-1)!, kvHeads, head]);
  const scales = input('f32', [kvHeads], normal(0.1, 1));
  return {
    q: input(options.type, [rowStarts[sequences], qHeads * head]),
    keys: cache,
    values: cache,
    ...(options.cache === 'e4m3' ? { keyScale: scales, valueScale: scales } : {}),
    ...(paged ? { table: input('i32', [sequences, pagesEach], distinct(pages)) } : {}),
    ...(paged ? {} : { starts: input('i32', [sequences + 1], values(starts)) }),
    rowStarts: input('i32', [sequences + 1], values(rowStarts)),
    lengths: input('i32', [sequences], values(lengths)),
    ...(options.sinks ? { sinks: input('f32', [qHeads], normal(2)) } : {}),
    y: output(options.type, [rowStarts[sequences], qHeads * head], BOUND),
    scale: scalar('f32', 1 / Math.sqrt(head)),
    ...(options.cap ? { cap: scalar('f32', 5) } : {}),
    ...(options.window ? { window: scalar('i32', CASE_WINDOW) } : {}),
  };
}

function record({ dims, options }: Specialisation<typeof PREFILL_OPTIONS>): KernelIR {
  return traceKernel('attention_prefill', argumentsOf(dims, options), MMA_THREADS, (t: PrefillTensors) => {
    'use gpu';
    prefillByMma(t, dims, options);
  });
}
