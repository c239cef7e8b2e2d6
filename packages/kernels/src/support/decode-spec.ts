import {
  input,
  normal,
  output,
  scalar,
  updated,
  values,
  type Chosen,
  type Dims,
  type Expected,
  type Roofline,
  type ScalarArgument,
  type TensorArgument,
  type Values,
} from '../spec.ts';
import { attendRow, cacheType, seenBy, type RowOfAttention } from './attention.ts';
import { decodeItems, splitTokens } from './decode-items.ts';
import { PAGE, pagesOf } from './page.ts';
import { bound } from './rounding.ts';
import { bytesOf } from './storage.ts';

/** What `attention_decode` is given, and what must come out. */

export const DECODE_OPTIONS = {
  type: ['bf16', 'f16'],
  cache: ['same', 'e4m3'],
  window: [false, true],
  cap: [false, true],
  /** The CTA that is the last of a sequence's splits puts them together. */
  whole: [false, true],
  /** With `whole`: a logit for each query head that takes part in the sum and weighs nothing. */
  sinks: [false, true],
} as const;
export type DecodeOptions = Chosen<typeof DECODE_OPTIONS>;

/** Rows of a tile of scores: query tokens times the query heads of one key head. */
export const ROWS = 16;

/** Tiles of 16 rows of scores for each key head. */
export function rowTiles({ tokens, qHeads, kvHeads }: Dims): number {
  return Math.ceil((tokens * qHeads) / kvHeads / ROWS);
}

const SUMS = bound(
  2 ** 16 + 4096,
  'powers are rounded to 8 bits in bf16 (2^-8 of each at most; f16 has more) before they weigh values; scores err by float32',
);
const STATS = bound(
  4096,
  'scores are float32 sums of exact products; the largest errs by their rounding, the sum by that of its exponents',
);

interface Case {
  readonly lengths: readonly number[];
  readonly rowStarts: readonly number[];
  readonly rows: number;
  readonly items: readonly number[];
  readonly starts: readonly number[];
}

/** Keys that a case's window lets a query see. */
const CASE_WINDOW = 21;

/** Sequences from the longest to the shortest, each with one query token fewer than the one before, in turns. */
function caseOf({ sequences, tokens, longest, shortest, head }: Dims, { window }: DecodeOptions): Case {
  const step = (longest - shortest) / Math.max(1, sequences - 1);
  const lengths = Array.from({ length: sequences }, (_none, s) => longest - Math.floor(s * step));
  const rowStarts = [0];
  for (let s = 0; s < sequences; s++) rowStarts.push(rowStarts[s] + tokens - (s % tokens));
  const counts = lengths.map((_none, s) => rowStarts[s + 1] - rowStarts[s]);
  const list = decodeItems(lengths, counts, head, window ? CASE_WINDOW : undefined);
  return { lengths, rowStarts, rows: rowStarts[sequences], items: [...list.items, -1, 0], starts: [...list.starts] };
}

/** The parameters by name; which there are depends on the options. */
type DecodeArgs = Readonly<
  Record<'q' | 'keys' | 'values' | 'table' | 'tableStarts' | 'rowStarts' | 'lengths' | 'items', TensorArgument> &
    Record<'o' | 'stats', TensorArgument> &
    Partial<Record<'keyScale' | 'valueScale' | 'starts' | 'sinks' | 'arrived' | 'y', TensorArgument>> &
    Record<'scale', ScalarArgument> &
    Partial<Record<'cap' | 'window', ScalarArgument>>
>;

export function decodeArgs(dims: Dims, options: DecodeOptions): DecodeArgs {
  const { sequences, tokens, qHeads, kvHeads, head } = dims;
  const { lengths, rowStarts, rows, items, starts } = caseOf(dims, options);
  const { pages, table, tableStarts } = pagesOf(lengths);
  const stored = cacheType(options);
  const scales = input('f32', [kvHeads], normal(0.1, 1));
  const count = items.length / 2;
  const zeros = () => new Float64Array(sequences * kvHeads * rowTiles(dims));
  return {
    q: input(options.type, [rows, qHeads * head]),
    keys: input(stored, [pages, kvHeads, PAGE, head]),
    values: input(stored, [pages, kvHeads, PAGE, head]),
    ...(options.cache === 'e4m3' ? { keyScale: scales, valueScale: scales } : {}),
    table,
    tableStarts,
    rowStarts: input('i32', [sequences + 1], values(rowStarts)),
    lengths: input('i32', [sequences], values(lengths)),
    items: input('i32', [count, 2], values(items)),
    o: output('f32', [count, tokens, qHeads, head], SUMS),
    stats: output('f32', [count, tokens, qHeads, 2], STATS),
    ...(options.whole
      ? {
          starts: input('i32', [sequences + 1], values(starts)),
          ...(options.sinks ? { sinks: input('f32', [qHeads], normal(2)) } : {}),
          arrived: updated('u32', [sequences, kvHeads * rowTiles(dims)], undefined, zeros),
          y: output(options.type, [rows, qHeads, head], SUMS),
        }
      : {}),
    scale: scalar('f32', 1 / Math.sqrt(head)),
    ...(options.cap ? { cap: scalar('f32', 5) } : {}),
    ...(options.window ? { window: scalar('i32', CASE_WINDOW) } : {}),
  };
}

/** Items of a case, the one that is nothing among them. */
export function itemsOf(dims: Dims, options: DecodeOptions): number {
  return caseOf(dims, options).items.length / 2;
}

/** In float64, and what each result is made of. */
export function decodeReference(
  given: Values<DecodeArgs>,
  dims: Dims,
  options: DecodeOptions,
): Readonly<Record<string, Expected>> {
  const { qHeads, kvHeads, head, tokens } = dims;
  const { items, rows, starts } = caseOf(dims, options);
  const cells = (items.length / 2) * tokens * qHeads;
  const empty = (count: number) => ({ values: new Float64Array(count).fill(NaN), magnitude: new Float64Array(count) });
  const [o, stats, y] = [empty(cells * head), empty(cells * 2), empty(rows * qHeads * head)];
  const split = splitTokens(head);

  /** What a row sees from one token on up to another. */
  const attend = (sequence: number, row: number, h: number, begin: number, stop: number): RowOfAttention => {
    const position = given.lengths[sequence] - (given.rowStarts[sequence + 1] - row);
    const [from, to] = seenBy(position, options.window ? given.window : undefined);
    const kvHead = Math.floor((h * kvHeads) / qHeads);
    const of = (cache: Float64Array, scale: number) => (at: number) => {
      const page = given.table[given.tableStarts[sequence] + Math.floor(at / PAGE)];
      const first = ((page * kvHeads + kvHead) * PAGE + (at % PAGE)) * head;
      return cache.subarray(first, first + head).map((v) => v * scale);
    };
    const q = given.q.subarray((row * qHeads + h) * head, (row * qHeads + h + 1) * head);
    const [keyScale, valueScale] = [given.keyScale?.[kvHead] ?? 1, given.valueScale?.[kvHead] ?? 1];
    const seen = [Math.max(from, begin), Math.max(from, begin, Math.min(to, stop))] as const;
    const cap = options.cap ? given.cap : undefined;
    return attendRow(q, of(given.keys, keyScale), of(given.values, valueScale), seen, given.scale, cap);
  };

  for (let item = 0; item < items.length / 2; item++) {
    const [sequence, part] = [given.items[2 * item], given.items[2 * item + 1]];
    if (sequence < 0) continue;
    const [start, end] = [given.rowStarts[sequence], given.rowStarts[sequence + 1]];
    // A sequence of one split needs nobody to put it together.
    const kept = !options.whole || starts[sequence + 1] - starts[sequence] > 1;
    for (let row = start; row < end; row++) {
      for (let h = 0; h < qHeads; h++) {
        if (kept) {
          const result = attend(sequence, row, h, part * split, (part + 1) * split);
          const cell = (item * tokens + row - start) * qHeads + h;
          o.values.set(result.o, cell * head);
          o.magnitude.set(result.magnitude, cell * head);
          stats.values.set([result.top, result.sum], cell * 2);
          stats.magnitude.set([1 + Math.abs(result.top), result.sum], cell * 2);
        }
        if (item !== starts[sequence]) continue;
        const all = attend(sequence, row, h, 0, Infinity);
        const sum = all.sum + (given.sinks ? 2 ** (given.sinks[h] * Math.LOG2E - all.top) : 0);
        const at = (row * qHeads + h) * head;
        for (let e = 0; e < head; e++) {
          y.values[at + e] = all.o[e] / sum;
          y.magnitude[at + e] = all.magnitude[e] / sum;
        }
      }
    }
  }
  return options.whole ? { o, stats, y, arrived: new Float64Array(given.arrived!.length) } : { o, stats };
}

/** The least work: keys and values read once, queries, and parts. */
export function decodeRoofline(dims: Dims, options: DecodeOptions): Roofline {
  const { lengths, rows, items } = caseOf(dims, options);
  const { qHeads, kvHeads, head, tokens } = dims;
  const keys = lengths.reduce((sum, length) => sum + length, 0);
  return {
    bytes:
      bytesOf(cacheType(options), 2 * keys * kvHeads * head) +
      bytesOf(options.type, rows * qHeads * head) +
      bytesOf('f32', (items.length / 2) * tokens * qHeads * (head + 2)),
    flops: 4 * keys * tokens * qHeads * head,
  };
}
