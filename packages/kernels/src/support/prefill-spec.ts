import { attendRow, cacheType, HEADS, seenBy } from './attention.ts';
import { PAGE, pagesOf } from './page.ts';
import type { RowsOptions } from './prefill.ts';
import { bound as boundOf } from './rounding.ts';
import { bytesOf } from './storage.ts';
import {
  input,
  normal,
  output,
  scalar,
  values,
  type Bound,
  type Dims,
  type Expected,
  type Roofline,
  type ScalarArgument,
  type TensorArgument,
  type Values,
} from '../spec.ts';

/** The specification that the kernels of attention over many queries share. */

const BOUND = boundOf(
  2 ** 16 + 4096,
  'powers are rounded to 8 bits in bf16 (2^-8 of each at most; f16 has more) before they weigh values; scores err by float32',
);

/** What each size means. */
export const PREFILL_DIMS = {
  sequences: 'sequences',
  tokens: 'most queries of a sequence',
  longest: 'tokens of the longest sequence',
  shortest: 'tokens of the shortest sequence',
  qHeads: 'query heads',
  kvHeads: 'key and value heads',
  head: 'elements of a head',
} as const;

export function prefillRefused(dims: Dims): string | undefined {
  if (!HEADS.includes(dims.head)) return `heads of ${dims.head} elements are not had: ${HEADS.join(', ')} are`;
  return sizesRefused(dims);
}

export function sizesRefused({ tokens, longest, shortest, qHeads, kvHeads }: Dims): string | undefined {
  if (tokens > shortest || shortest > longest) {
    return `the shortest sequence (${shortest}) lies between ${tokens} queries and ${longest} tokens`;
  }
  return qHeads % kvHeads === 0 ? undefined : `${qHeads} query heads do not divide among ${kvHeads} key heads`;
}

export const PREFILL_TUNING = {
  /** The query heads of a key head share blocks of queries: few queries of a sequence then fill them. */
  pack: [false, true],
} as const;

/** Query heads of a key head that can share a block: a thread's two rows, 8 apart, are of one head. */
const PACKED: readonly number[] = [2, 4, 8];

/** Query heads that a block has. */
export function headsOf({ qHeads, kvHeads }: Dims, pack: boolean): number {
  return pack ? qHeads / kvHeads : 1;
}

export function packRefused({ qHeads, kvHeads }: Dims, pack: boolean): string | undefined {
  if (!pack || PACKED.includes(qHeads / kvHeads)) return undefined;
  return `${qHeads / kvHeads} query heads of a key head do not share blocks: ${PACKED.join(', ')} do`;
}

/** Whether packing makes fewer blocks of so many rows. */
export function packs(dims: Dims, rows: number): boolean {
  const blocks = (pack: boolean): number => {
    const [across, down] = prefillGrid(dims, pack, rows);
    return across * down;
  };
  return packRefused(dims, true) === undefined && blocks(true) < blocks(false);
}

/** CTAs: blocks of so many rows, heads, sequences. */
export function prefillGrid(dims: Dims, pack: boolean, rows: number): readonly [number, number, number] {
  const heads = headsOf(dims, pack);
  return [Math.ceil((dims.tokens * heads) / rows), dims.qHeads / heads, dims.sequences];
}

/** The parameters by name; which there are depends on the options. */
export type PrefillArgs = Readonly<
  Record<'q' | 'keys' | 'values' | 'rowStarts' | 'lengths' | 'y', TensorArgument> &
    Partial<Record<'keyScale' | 'valueScale' | 'table' | 'tableStarts' | 'starts' | 'sinks', TensorArgument>> &
    Record<'scale', ScalarArgument> &
    Partial<Record<'cap' | 'window', ScalarArgument>>
>;

interface Case {
  readonly lengths: readonly number[];
  readonly rowStarts: readonly number[];
}

/** Keys that a case's window lets a query see. */
const CASE_WINDOW = 21;

/** Sequences from the longest to the shortest, each with fewer queries than the one before. */
function caseOf({ sequences, tokens, longest, shortest }: Dims): Case {
  const step = (longest - shortest) / Math.max(1, sequences - 1);
  const lengths = Array.from({ length: sequences }, (_none, s) => longest - Math.floor(s * step));
  const rowStarts = [0];
  for (let s = 0; s < sequences; s++) rowStarts.push(rowStarts[s] + Math.max(1, tokens - 5 * s));
  return { lengths, rowStarts };
}

/** `bound`: how far off results may be. */
export function prefillArgs(dims: Dims, options: RowsOptions, bound: Bound = BOUND): PrefillArgs {
  const { sequences, qHeads, kvHeads, head } = dims;
  const { lengths, rowStarts } = caseOf(dims);
  const { pages, table, tableStarts } = pagesOf(lengths);
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
    ...(paged ? { table, tableStarts } : {}),
    ...(paged ? {} : { starts: input('i32', [sequences + 1], values(starts)) }),
    rowStarts: input('i32', [sequences + 1], values(rowStarts)),
    lengths: input('i32', [sequences], values(lengths)),
    ...(options.sinks ? { sinks: input('f32', [qHeads], normal(2)) } : {}),
    y: output(options.type, [rowStarts[sequences], qHeads * head], bound),
    scale: scalar('f32', 1 / Math.sqrt(head)),
    ...(options.cap ? { cap: scalar('f32', 5) } : {}),
    ...(options.window ? { window: scalar('i32', CASE_WINDOW) } : {}),
  };
}

/** In float64, and what each result is made of. */
export function prefillReference(
  given: Values<PrefillArgs>,
  dims: Dims,
  options: RowsOptions,
): Readonly<Record<string, Expected>> {
  const { qHeads, kvHeads, head, sequences } = dims;
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
            ? (given.table[given.tableStarts![sequence] + Math.floor(at / PAGE)] * kvHeads + kvHead) * PAGE +
              (at % PAGE)
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
}

/** The least work: what is seen, read once. */
export function prefillRoofline(dims: Dims, options: RowsOptions): Roofline {
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
}
