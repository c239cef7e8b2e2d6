import { PAGE_TOKENS, type CacheDtype } from '../api.ts';
import { QUERY_ROWS } from '../kernels/attention.ts';
import { bitsOf, floatOf, shareOf, type ThreadArena } from './thread.ts';

export interface LayoutFields {
  readonly sequences: number;
  readonly rowStart: number;
  readonly start: number;
  readonly pageStart: number;
  readonly pageTable: number;
}

export interface CacheLayerFields {
  readonly pages: number;
  readonly dtype: CacheDtype;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface CacheFields extends LayoutFields, CacheLayerFields {
  readonly qkv: number;
  readonly heads: number;
  readonly rows: number;
  /** 0: no norm. */
  readonly qWeight: number;
  readonly kWeight: number;
  readonly epsilon: number;
  /** Turned elements of a head; 0: no RoPE. */
  readonly ropeDim: number;
  readonly cos: number;
  readonly sin: number;
}

export interface AttentionFields extends LayoutFields, CacheLayerFields {
  readonly q: number;
  readonly qStride: number;
  readonly output: number;
  readonly heads: number;
  readonly causal: boolean;
  readonly window: number;
  readonly scale: number;
}

function elementBytes(dtype: CacheDtype): number {
  return dtype === 'f32' ? 4 : 2;
}

/** Norm, turn and store the rows' heads; threads share the rows. */
export function cache(c: CacheFields, t: ThreadArena): void {
  const [first, end] = shareOf(c.rows, 1, t);
  const { headDim, kvHeads, heads } = c;
  const rowBytes = 4 * (heads + 2 * kvHeads) * headDim;
  const element = elementBytes(c.dtype);
  const pageBytes = PAGE_TOKENS * headDim * element;
  const inverse = bitsOf(1 / headDim);
  const epsilon = bitsOf(c.epsilon);
  const half = c.ropeDim / 2;
  const words = t.i32;
  const { rmsNorm, rotate, scatterF32, scatterBf16, groupBf16 } = t.kernels;
  let sequence = 0;
  for (let row = first; row < end; row++) {
    while (words[(c.rowStart >> 2) + sequence + 1] <= row) sequence++;
    const position = words[(c.start >> 2) + sequence] + row - words[(c.rowStart >> 2) + sequence];
    const table = (c.pageTable >> 2) + words[(c.pageStart >> 2) + sequence];
    const page = words[table + Math.floor(position / PAGE_TOKENS)];
    const slot = position % PAGE_TOKENS;
    const qkv = c.qkv + row * rowBytes;
    for (let h = 0; h < heads + kvHeads; h++) {
      const x = qkv + h * headDim * 4;
      if (c.qWeight !== 0) rmsNorm(x, h < heads ? c.qWeight : c.kWeight, x, headDim, epsilon, inverse);
      if (half > 0) rotate(x, c.cos + position * half * 4, c.sin + position * half * 4, half);
    }
    for (let h = 0; h < kvHeads; h++) {
      const key = qkv + (heads + h) * headDim * 4;
      const value = key + kvHeads * headDim * 4;
      const keyPage = c.pages + (page * kvHeads + h) * 2 * pageBytes;
      const valueAt = keyPage + pageBytes + slot * headDim * element;
      if (c.dtype === 'f32') {
        scatterF32(key, keyPage + slot * 4, headDim, PAGE_TOKENS * 4);
        scatterF32(value, valueAt, headDim, 4);
      } else {
        // The order of columns within 16 is that of `bf16Index`.
        scatterBf16(key, keyPage + 2 * (2 * (slot & 7) + (slot >> 3)), headDim, PAGE_TOKENS * 2);
        groupBf16(value, valueAt, headDim);
      }
    }
  }
}

/**
 * Softmax attention in two passes: a tile's scores over its whole range go to scratch, then their exponentials weigh V.
 * A tile is several rows of one head, or, where a sequence has few rows, the heads that share a K/V head.
 */
export function attention(c: AttentionFields, t: ThreadArena): void {
  const words = t.i32;
  const group = c.heads / c.kvHeads;
  let item = 0;
  for (let s = 0; s < c.sequences; s++) {
    const firstRow = words[(c.rowStart >> 2) + s];
    const rows = words[(c.rowStart >> 2) + s + 1] - firstRow;
    const start = words[(c.start >> 2) + s];
    const table = c.pageTable + 4 * words[(c.pageStart >> 2) + s];
    const byRows = rows >= QUERY_ROWS[0] || group === 1;
    // Along the tile: the rows of one head, or the heads of one row.
    const [lines, length] = byRows ? [c.heads, rows] : [rows * c.kvHeads, group];
    for (let line = 0; line < lines; line++) {
      for (let at = 0; at < length;) {
        const size = length - at >= QUERY_ROWS[0] ? QUERY_ROWS[0] : 1;
        if (item++ % t.threads === t.thread) {
          const row = byRows ? at : Math.floor(line / c.kvHeads);
          const head = byRows ? line : (line % c.kvHeads) * group + at;
          tile(c, t, { table, start, rows, row, head, size, byRows, firstRow });
        }
        at += size;
      }
    }
  }
}

interface Tile {
  /** Address of the sequence's first page number. */
  readonly table: number;
  /** Absolute position of the sequence's first row of the step, and its rows. */
  readonly start: number;
  readonly rows: number;
  readonly firstRow: number;
  readonly row: number;
  readonly head: number;
  readonly size: number;
  readonly byRows: boolean;
}

function tile(
  c: AttentionFields,
  t: ThreadArena,
  { table, start, rows, firstRow, row, head, size, byRows }: Tile,
): void {
  const { kernels, scratch, i32: words } = t;
  const { headDim, kvHeads } = c;
  const pageBytes = PAGE_TOKENS * headDim * elementBytes(c.dtype);
  const pageStride = kvHeads * 2 * pageBytes;
  const keys = c.pages + Math.floor(head / (c.heads / kvHeads)) * 2 * pageBytes;

  // Each line of the tile sees [low, high); the tile as a whole [tileLow, tileHigh).
  const lineRow = (m: number): number => (byRows ? row + m : row);
  const high = (m: number): number => (c.causal ? start + lineRow(m) + 1 : start + rows);
  const low = (m: number): number => (c.window > 0 ? Math.max(0, start + lineRow(m) + 1 - c.window) : 0);
  const tileLow = low(0);
  const tileHigh = high(size - 1);
  const firstPage = Math.floor(tileLow / PAGE_TOKENS);
  const pages = Math.ceil(tileHigh / PAGE_TOKENS) - firstPage;
  const base = firstPage * PAGE_TOKENS;

  const q = c.q + (firstRow + row) * c.qStride + head * headDim * 4;
  const qStep = byRows ? c.qStride : headDim * 4;
  const pageTable = table + 4 * firstPage;
  const { scores, scoreStride } = scratch;
  kernels[`scores_${size}_${c.dtype}`](q, qStep, pageTable, pages, keys, pageStride, headDim, scores, scoreStride);

  const scale = bitsOf(c.scale);
  for (let m = 0; m < size; m++) {
    const line = scores + m * scoreStride;
    kernels.softmax(line + 4 * (low(m) - base), high(m) - low(m), scale, scratch.tile + 4 * m);
    // What other lines of the tile see and this one does not weighs exactly nothing.
    words.fill(0, (line >> 2) + tileLow - base, (line >> 2) + low(m) - base);
    words.fill(0, (line >> 2) + high(m) - base, (line >> 2) + tileHigh - base);
  }

  const outStep = byRows ? c.heads * headDim * 4 : headDim * 4;
  const output = c.output + ((firstRow + row) * c.heads + head) * headDim * 4;
  const element = elementBytes(c.dtype);
  for (let column = 0; column < headDim;) {
    const width = headDim - column >= 16 ? 16 : headDim - column >= 4 ? 4 : 1;
    kernels[`${width === 16 ? 'mix' : `mix${width}`}_${size}_${c.dtype}`](
      scores + 4 * (tileLow - base),
      scoreStride,
      pageTable,
      tileLow - base,
      tileHigh - tileLow,
      keys + pageBytes + column * element,
      pageStride,
      headDim * element,
      output + 4 * column,
      outStep,
    );
    column += width;
  }
  for (let m = 0; m < size; m++) {
    const total = floatOf(words[(scratch.tile >> 2) + m]);
    kernels.scale(output + m * outStep, headDim, bitsOf(1 / total));
  }
}
