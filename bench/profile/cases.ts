import {
  KERNELS,
  specialise,
  type KernelCase,
  type KernelModule,
  type KnownTunings,
  type Specialisation,
} from '@rose/kernels';

interface ProfiledCase extends KernelCase {
  readonly id: string;
  readonly kernel: string;
}

const HEADS = { qHeads: 32, kvHeads: 8, head: 128 } as const;

/** What is profiled: kernels whose bars are near or missed. */
export const CASES: readonly ProfiledCase[] = [
  ...[1, 16, 32, 64].map((rows) => ({
    id: `linear_small 4096x4096, 8 leaves, ${rows} rows`,
    kernel: 'linear_small',
    dims: { rows, columns: 4096, depth: 4096 },
    options: { leaves: 8 },
  })),
  ...[
    { rows: 1, columns: 6144 },
    { rows: 32, columns: 6144 },
    { rows: 64, columns: 6144 },
    { rows: 16, columns: 28672 },
    { rows: 32, columns: 28672 },
    { rows: 64, columns: 28672 },
  ].map(({ rows, columns }) => ({
    id: `linear_small ${columns}x4096, ${rows} rows`,
    kernel: 'linear_small',
    dims: { rows, columns, depth: 4096 },
  })),
  ...[
    { sequences: 32, length: 4096 },
    { sequences: 128, length: 2048 },
    { sequences: 1, length: 32768 },
  ].map(({ sequences, length }) => ({
    id: `attention_decode ${sequences} x ${length}`,
    kernel: 'attention_decode',
    dims: { sequences, tokens: 1, longest: length, shortest: length, ...HEADS },
  })),
  {
    id: 'linear 4096x14336, 8 leaves, 8192 rows',
    kernel: 'linear',
    dims: { rows: 8192, columns: 4096, depth: 14336 },
    options: { leaves: 8 },
  },
  {
    id: 'attention_prefill_wgmma 8192, 32 heads of 128',
    kernel: 'attention_prefill_wgmma',
    dims: { sequences: 1, tokens: 8192, longest: 8192, shortest: 8192, qHeads: 32, kvHeads: 32, head: 128 },
  },
  {
    id: 'linear_grouped 2048x768, 128 experts, 4096 tokens',
    kernel: 'linear_grouped',
    dims: { rows: 32768, columns: 2048, depth: 768, experts: 128 },
    options: { leaves: 4 },
  },
];

/** With the tunings that a server would take. */
export function specialised(
  one: ProfiledCase,
  tunings: KnownTunings,
): { readonly module: KernelModule; readonly s: Specialisation } {
  const module = KERNELS.find(({ name }) => name === one.kernel)!;
  return { module, s: specialise(module, one, tunings) };
}
