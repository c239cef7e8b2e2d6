import { shared, u32, _, type i32, type Tensor } from '@rose/cute';
import { MOST_TOKENS } from '../weight.ts';
import { rowShape, type RowShape } from './sample-row.ts';

/** Where the sampling kernels hold rows of logits. */

/** `shared`: a cluster's shared memory, read once; `global`: for GPUs without clusters, one CTA's row in a tensor of its own. */
export const HELD = ['shared', 'global'] as const;
export const ROW_TUNING = { cluster: [1, 2, 4, 8], threads: [256, 512, 1024, 128, 64] } as const;

interface Held {
  readonly held: (typeof HELD)[number];
}
interface RowTuning {
  readonly cluster: number;
  readonly threads: number;
}

/** Words of a row in global memory are a multiple of this. */
const PITCH = 4096;
/** Ids of a CTA of which a multiprocessor has room for three, and those of which it has room for one. */
const SLICE = 16384;
const MOST_SLICE = 32768;

export function pitchOf(vocabulary: number): number {
  return Math.ceil(vocabulary / PITCH) * PITCH;
}

export function heldShape(vocabulary: number, { held }: Held, { cluster, threads }: RowTuning): RowShape {
  return rowShape(vocabulary, cluster, threads, held === 'global' ? PITCH / (4 * threads) : 1);
}

export function heldRefused(vocabulary: number, options: Held, tuning: RowTuning): string | undefined {
  if (vocabulary > MOST_TOKENS) return `a vocabulary of ${vocabulary} is too large: sums are exact for ${MOST_TOKENS}`;
  if (options.held === 'global') return tuning.cluster > 1 ? 'rows in global memory are held by one CTA' : undefined;
  const { slice } = heldShape(vocabulary, options, tuning);
  return slice > MOST_SLICE ? `${slice} logits do not fit a CTA's shared memory: ${MOST_SLICE} do` : undefined;
}

export function rowTuning(vocabulary: number, { held }: Held): { cluster: 1 | 2 | 4 | 8; threads: 256 } {
  const parts = held === 'global' ? 1 : Math.ceil(vocabulary / SLICE);
  return { cluster: parts <= 1 ? 1 : parts <= 2 ? 2 : parts <= 4 ? 4 : 8, threads: 256 };
}

/** The memory of row `o`. */
export function heldMemory(rows: Tensor<u32> | undefined, o: i32, shape: RowShape): Tensor<u32> {
  return rows ? rows(o, _) : shared(u32, shape.slice, { name: 'row' });
}
