import type { KernelIR } from '@rose/cute';
import { PREFILL_OPTIONS, type PrefillTensors } from './support/prefill.ts';
import { MMA_ROWS, MMA_THREADS, prefillByMma } from './support/prefill-mma.ts';
import {
  headsOf,
  packRefused,
  packs,
  PREFILL_DIMS,
  PREFILL_TUNING,
  prefillArgs,
  prefillGrid,
  prefillReference,
  prefillRefused,
  prefillRoofline,
} from './support/prefill-spec.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

/**
 * Attention of many queries of each sequence, the last of its tokens: prompts, chunks of prompts, texts to embed.
 *
 * `rowStarts` says which rows of `q` and `y` are whose; the last of them is at position `lengths` - 1. A sequence of length 0
 * is nothing: its rows are left as they are. Keys and values are in pages ([kv head][16][head] elements, as `qk_rope_cache`
 * writes them; `table` has the pages of all sequences, those of each from `tableStarts` on, where several may begin), or in
 * rows from `starts` on. `causal`: a query at position p sees keys to p, with a `window` from p - window + 1 on;
 * `bidirectional`: all of its sequence, with a window those nearer than it. `cap`: scores are cap * tanh(scale * product /
 * cap). `sinks`: a logit for each query head that takes part in the sum and weighs nothing. Pages need not hold numbers
 * behind a sequence's length; elsewhere keys and values are finite.
 *
 * Tiles of keys begin at multiples of `tileTokens`, and a tile that a query does not see changes nothing of it: its bits
 * depend on what it sees alone, whatever the chunks, the batch and the pages are. `attention_prefill_wgmma` gives the same
 * bits and is several times as fast, on sm_90a alone; this one is for every GPU from sm_80 on.
 */
const attentionPrefill: KernelModule = defineKernel({
  name: 'attention_prefill',
  summary: 'y = softmax(scale q k) v for each query and head, over the keys that it sees',
  dims: PREFILL_DIMS,
  options: PREFILL_OPTIONS,
  tuning: PREFILL_TUNING,
  refuse: ({ dims, tuning: { pack } }) => prefillRefused(dims) ?? packRefused(dims, pack),
  choose: (dims) => ({ pack: packs(dims, MMA_ROWS) }),
  args: prefillArgs,
  trace: record,
  grid: ({ dims, tuning }) => prefillGrid(dims, tuning.pack, MMA_ROWS),
  reference: prefillReference,
  roofline: prefillRoofline,
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
      dims: { sequences: 1, tokens: 13, longest: 141, shortest: 141, qHeads: 2, kvHeads: 1, head: 96 },
      options: { cache: 'e4m3', type: 'f16', cap: true },
    },
    {
      dims: { sequences: 2, tokens: 21, longest: 150, shortest: 40, qHeads: 8, kvHeads: 2, head: 64 },
      options: { window: true, sinks: true },
      tuning: { pack: true },
    },
    {
      dims: { sequences: 2, tokens: 19, longest: 131, shortest: 19, qHeads: 2, kvHeads: 1, head: 32 },
      options: { layout: 'rows', mask: 'bidirectional' },
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
    {
      dims: { sequences: 4, tokens: 1024, longest: 4096, shortest: 1024, qHeads: 16, kvHeads: 8, head: 128 },
      options: { cache: 'e4m3' },
      large: true,
    },
  ],
});

export default attentionPrefill;

function record(s: Specialisation<typeof PREFILL_OPTIONS, typeof PREFILL_TUNING>): KernelIR {
  const { dims, options } = s;
  return traceKernel('attention_prefill', prefillArgs(dims, options), MMA_THREADS, (t: PrefillTensors) => {
    'use gpu';
    prefillByMma(t, dims, options, headsOf(dims, s.tuning.pack));
  });
}
