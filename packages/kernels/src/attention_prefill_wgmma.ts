import type { KernelIR, TensorMapDescription } from '@rose/cute';
import { PREFILL_OPTIONS, type PrefillTensors } from './support/prefill.ts';
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
import { prefillByWgmma, WGMMA_ROWS, WGMMA_THREADS, wgmmaMaps } from './support/prefill-wgmma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

/**
 * `attention_prefill` on Hopper's tensor cores: one warp loads tiles of keys and values by TMA, two warpgroups of 64 queries
 * take turns, so that one computes powers while the other's products run. Caches of 8 bits pass through three warps more,
 * which widen them. Where a sequence has few queries, the query heads of a key head share blocks. Its bits are those of
 * `attention_prefill`.
 */
const attentionPrefillWgmma: KernelModule = defineKernel({
  name: 'attention_prefill_wgmma',
  summary: 'y = softmax(scale q k) v for each query and head, over the keys that it sees',
  arch: 'sm_90a',
  dims: PREFILL_DIMS,
  options: PREFILL_OPTIONS,
  tuning: PREFILL_TUNING,
  refuse: ({ dims, tuning: { pack } }) => prefillRefused(dims) ?? packRefused(dims, pack),
  choose: (dims) => ({ pack: packs(dims, WGMMA_ROWS) }),
  args: prefillArgs,
  maps,
  trace: record,
  grid: ({ dims, tuning }) => prefillGrid(dims, tuning.pack, WGMMA_ROWS),
  reference: prefillReference,
  roofline: prefillRoofline,
  cases: [
    { dims: { sequences: 2, tokens: 67, longest: 150, shortest: 127, qHeads: 2, kvHeads: 1, head: 64 } },
    {
      dims: { sequences: 2, tokens: 17, longest: 129, shortest: 17, qHeads: 1, kvHeads: 1, head: 128 },
      options: { layout: 'rows', mask: 'bidirectional', type: 'f16' },
    },
    {
      dims: { sequences: 1, tokens: 15, longest: 83, shortest: 83, qHeads: 2, kvHeads: 1, head: 96 },
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
      dims: { sequences: 1, tokens: 13, longest: 141, shortest: 141, qHeads: 2, kvHeads: 2, head: 96 },
      options: { cache: 'e4m3' },
    },
    {
      dims: { sequences: 1, tokens: 9, longest: 70, shortest: 70, qHeads: 1, kvHeads: 1, head: 256 },
      options: { cache: 'e4m3', layout: 'rows', mask: 'bidirectional' },
    },
    {
      dims: { sequences: 1, tokens: 21, longest: 70, shortest: 70, qHeads: 4, kvHeads: 1, head: 256 },
      options: { cache: 'e4m3', window: true, cap: true, sinks: true },
      tuning: { pack: true },
    },
    {
      dims: { sequences: 2, tokens: 37, longest: 150, shortest: 40, qHeads: 8, kvHeads: 2, head: 64 },
      options: { window: true, sinks: true },
      tuning: { pack: true },
    },
    {
      dims: { sequences: 2, tokens: 19, longest: 131, shortest: 19, qHeads: 2, kvHeads: 1, head: 32 },
      options: { layout: 'rows', mask: 'bidirectional' },
    },
    {
      dims: { sequences: 1, tokens: 8192, longest: 8192, shortest: 8192, qHeads: 32, kvHeads: 32, head: 128 },
      large: true,
    },
    {
      dims: { sequences: 4, tokens: 2048, longest: 4096, shortest: 2048, qHeads: 32, kvHeads: 8, head: 128 },
      options: { cache: 'e4m3' },
      large: true,
    },
    {
      dims: { sequences: 4, tokens: 2048, longest: 4096, shortest: 2048, qHeads: 32, kvHeads: 8, head: 128 },
      options: { window: true, cap: true, sinks: true },
      large: true,
    },
    {
      dims: { sequences: 1, tokens: 8192, longest: 8192, shortest: 8192, qHeads: 32, kvHeads: 8, head: 64 },
      large: true,
    },
  ],
});

export default attentionPrefillWgmma;

type Prefill = Specialisation<typeof PREFILL_OPTIONS, typeof PREFILL_TUNING>;

function maps({ dims, options, tuning }: Prefill): Readonly<Record<string, TensorMapDescription>> {
  return wgmmaMaps(dims, options, headsOf(dims, tuning.pack), prefillArgs(dims, options));
}

function record(s: Prefill): KernelIR {
  const { dims, options } = s;
  const args = prefillArgs(dims, options);
  const body = (t: PrefillTensors): void => {
    'use gpu';
    prefillByWgmma(t, dims, options, headsOf(dims, s.tuning.pack));
  };
  const facts = { maps: Object.keys(maps(s)), minBlocks: 1 };
  return traceKernel('attention_prefill_wgmma', args, WGMMA_THREADS, body, facts);
}
