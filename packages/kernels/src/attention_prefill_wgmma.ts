import type { KernelIR, TensorMapDescription } from '@rose/cute';
import { PREFILL_OPTIONS, type PrefillTensors } from './support/prefill.ts';
import {
  PREFILL_DIMS,
  prefillArgs,
  prefillReference,
  prefillRefused,
  prefillRoofline,
} from './support/prefill-spec.ts';
import { prefillByWgmma, WGMMA_ROWS, WGMMA_THREADS, wgmmaMaps } from './support/prefill-wgmma.ts';
import { traceKernel } from './support/trace.ts';
import { defineKernel, type KernelModule, type Specialisation } from './spec.ts';

/**
 * `attention_prefill` on Hopper's tensor cores: one warp loads tiles of keys and values by TMA, two warpgroups of 64 queries
 * take turns, so that one computes powers while the other's products run. Its bits are those of `attention_prefill`.
 */
const attentionPrefillWgmma: KernelModule = defineKernel({
  name: 'attention_prefill_wgmma',
  summary: 'y = softmax(scale q k) v for each query and head, over the keys that it sees',
  arch: 'sm_90a',
  dims: PREFILL_DIMS,
  options: PREFILL_OPTIONS,
  tuning: {},
  refuse: ({ dims, options: { cache } }) =>
    cache === 'same'
      ? prefillRefused(dims)
      : 'caches of 8 bits are for attention_prefill: wgmma takes both sides in one type',
  choose: () => ({}),
  args: prefillArgs,
  maps,
  trace: record,
  grid: ({ dims: { tokens, qHeads, sequences } }) => [Math.ceil(tokens / WGMMA_ROWS), qHeads, sequences],
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
      dims: { sequences: 1, tokens: 8192, longest: 8192, shortest: 8192, qHeads: 32, kvHeads: 32, head: 128 },
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

type Prefill = Specialisation<typeof PREFILL_OPTIONS>;

function maps({ dims, options }: Prefill): Readonly<Record<string, TensorMapDescription>> {
  return wgmmaMaps(dims, options, prefillArgs(dims, options));
}

function record(s: Prefill): KernelIR {
  const { dims, options } = s;
  const args = prefillArgs(dims, options);
  const body = (t: PrefillTensors): void => {
    'use gpu';
    prefillByWgmma(t, dims, options);
  };
  const facts = { maps: Object.keys(maps(s)), minBlocks: 1 };
  return traceKernel('attention_prefill_wgmma', args, WGMMA_THREADS, body, facts);
}
