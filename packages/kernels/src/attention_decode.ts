import type { KernelIR } from '@rose/cute';
import { HEADS } from './support/attention.ts';
import { decodeByMma, DECODE_THREADS, usualStages, type DecodeTensors } from './support/decode-mma.ts';
import {
  DECODE_OPTIONS,
  decodeArgs,
  decodeReference,
  decodeRoofline,
  itemsOf,
  rowTiles,
} from './support/decode-spec.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

/** Pages that a warp has under way or at work; in shared memory, of which some GPUs have less. */
const TUNING = { stages: [4, 3, 2] } as const;

/**
 * Attention of a few new tokens of many sequences over a paged cache: the part of one split, which `attention_combine`
 * puts together. A split is SPLIT tokens at an absolute place (`splitTokens`), so that a row's parts do not depend on what
 * else is in the batch, nor on how many tokens are asked at once.
 *
 * `rowStarts` says which rows of `q` are whose; the last of them is at position `lengths` - 1. `items` lists what is to be
 * done as (sequence, split); a negative sequence is nothing (`decodeItems` makes the list). A page is [kv head][16][head]
 * elements, as `qk_rope_cache` writes it; `table` has the pages of all sequences, those of each from `tableStarts` on, where
 * several may begin. `window`: a query at position p sees keys from p - window + 1 on. `cap`: scores are cap * tanh(scale *
 * product / cap). Pages need not hold numbers behind a sequence's length; elsewhere keys and values are finite. The lists and
 * the table are read early (`early`): the kernels before it must not write them.
 *
 * `o` is the sum of 2^(score - top) times values, `stats` (top, sum of powers), in powers of two: top is -Infinity where a
 * row sees nothing of the split. Cells of tokens that a sequence does not have are not written.
 *
 * `whole`: what `attention_combine` would do is done here, to the same bits, by the CTA that is the last of a sequence (of
 * those with the same rows), which `arrived` tells: zeros before and after each launch. `starts` says which items are whose. Of
 * a sequence with one split no parts are written.
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
  options: DECODE_OPTIONS,
  tuning: TUNING,
  refuse: ({ dims: { tokens, qHeads, kvHeads, head, longest, shortest }, options: { whole, sinks } }) => {
    if (sinks && !whole) return 'sinks take part where splits are put together: with whole, else in attention_combine';
    if (!HEADS.includes(head)) return `heads of ${head} elements are not had: ${HEADS.join(', ')} are`;
    if (tokens > 8) return `${tokens} query tokens a sequence are too many: at most 8, more are for attention_prefill`;
    if (shortest < tokens || shortest > longest)
      return `the shortest sequence (${shortest}) lies between ${tokens} and ${longest}`;
    return qHeads % kvHeads === 0 ? undefined : `${qHeads} query heads do not divide among ${kvHeads} key heads`;
  },
  choose: ({ head }, options) => ({ stages: usualStages(head, options) }),
  args: decodeArgs,
  trace: record,
  grid: ({ dims, options }) => [itemsOf(dims, options), dims.kvHeads * rowTiles(dims), 1],
  reference: decodeReference,
  roofline: decodeRoofline,
  cases: [
    { dims: { sequences: 1, tokens: 1, longest: 1, shortest: 1, qHeads: 4, kvHeads: 1, head: 64 } },
    { dims: { sequences: 3, tokens: 1, longest: 129, shortest: 15, qHeads: 8, kvHeads: 2, head: 128 } },
    {
      dims: { sequences: 2, tokens: 1, longest: 400, shortest: 15, qHeads: 4, kvHeads: 2, head: 128 },
      tuning: { stages: 2 },
    },
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
    { dims: { sequences: 80, tokens: 1, longest: 40, shortest: 1, qHeads: 4, kvHeads: 2, head: 32 } },
    {
      dims: { sequences: 2, tokens: 2, longest: 1541, shortest: 127, qHeads: 3, kvHeads: 1, head: 64 },
      options: { whole: true, sinks: true },
    },
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

function record({ dims, options, tuning }: Specialisation<typeof DECODE_OPTIONS, typeof TUNING>): KernelIR {
  const body = (t: DecodeTensors): void => {
    'use gpu';
    decodeByMma(t, dims, options, tuning.stages);
  };
  return traceKernel('attention_decode', decodeArgs(dims, options), DECODE_THREADS, body, { waits: true });
}
