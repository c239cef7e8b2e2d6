import { PAGE_TOKENS, type CacheDtype } from '../api.ts';
import { bitsOf, shareOf, type ThreadArena } from './thread.ts';

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
    while (words[(c.rowStart >>> 2) + sequence + 1] <= row) sequence++;
    const position = words[(c.start >>> 2) + sequence] + row - words[(c.rowStart >>> 2) + sequence];
    const table = (c.pageTable >>> 2) + words[(c.pageStart >>> 2) + sequence];
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

/** Kernels of a tile, by name: composing names would allocate in the innermost loop. */
interface TileNames {
  readonly rows: number;
  readonly scores: string;
  readonly mixes: readonly { readonly width: number; readonly name: string }[];
}

function tileNames(dtype: CacheDtype): readonly TileNames[] {
  return [4, 2, 1].map((rows) => ({
    rows,
    scores: `scores_${rows}_${dtype}`,
    mixes: [
      { width: 16, name: `mix_${rows}_${dtype}` },
      { width: 4, name: `mix4_${rows}_${dtype}` },
      { width: 1, name: `mix1_${rows}_${dtype}` },
    ],
  }));
}

const TILES: Readonly<Record<CacheDtype, readonly TileNames[]>> = { f32: tileNames('f32'), bf16: tileNames('bf16') };

/**
 * Softmax attention in two passes: a tile's scores over its whole range go to scratch, then their exponentials weigh V.
 * A tile is several rows of one head, or, where a sequence has few rows, the heads that share a K/V head.
 */
export function attention(c: AttentionFields, t: ThreadArena): void {
  const words = t.i32;
  const group = c.heads / c.kvHeads;
  const tiles = TILES[c.dtype];
  let item = 0;
  let next = t.take();
  for (let s = 0; s < c.sequences; s++) {
    const firstRow = words[(c.rowStart >>> 2) + s];
    const rows = words[(c.rowStart >>> 2) + s + 1] - firstRow;
    const byRows = rows >= tiles[0].rows || group === 1;
    // Along the tile: the rows of one head, or the heads of one row.
    const lines = byRows ? c.heads : rows * c.kvHeads;
    const length = byRows ? rows : group;
    for (let line = 0; line < lines; line++) {
      for (let at = 0, size = 0; at < length; at += size) {
        let names = 0;
        while (tiles[names].rows > length - at) names++;
        size = tiles[names].rows;
        if (item++ !== next) continue;
        next = t.take();
        const row = byRows ? at : Math.floor(line / c.kvHeads);
        const head = byRows ? line : (line % c.kvHeads) * group + at;
        tile(c, t, tiles[names], s, row, head, byRows);
      }
    }
  }
}

/** One tile: `names.rows` rows from `row` of sequence `s` on (byRows), or heads from `head` on. */
function tile(
  c: AttentionFields,
  t: ThreadArena,
  names: TileNames,
  s: number,
  row: number,
  head: number,
  byRows: boolean,
): void {
  const { kernels, i32: words } = t;
  const { scores, scoreStride, tile: factors } = t.scratch;
  const { headDim } = c;
  const size = names.rows;
  const firstRow = words[(c.rowStart >>> 2) + s];
  const start = words[(c.start >>> 2) + s];
  const element = elementBytes(c.dtype);
  const pageBytes = PAGE_TOKENS * headDim * element;
  const pageStride = c.kvHeads * 2 * pageBytes;
  const keys = c.pages + Math.floor((head * c.kvHeads) / c.heads) * 2 * pageBytes;

  // Line m of the tile sees positions [low + m * step, high + m * step) where nothing clips them.
  const lineStep = byRows ? 1 : 0;
  const position = start + row;
  const end = start + words[(c.rowStart >>> 2) + s + 1] - firstRow;
  const tileLow = c.window > 0 ? Math.max(0, position + 1 - c.window) : 0;
  const tileHigh = c.causal ? position + (size - 1) * lineStep + 1 : end;
  const firstPage = Math.floor(tileLow / PAGE_TOKENS);
  const pages = Math.ceil(tileHigh / PAGE_TOKENS) - firstPage;
  const base = firstPage * PAGE_TOKENS;

  const q = c.q + (firstRow + row) * c.qStride + head * headDim * 4;
  const qStep = byRows ? c.qStride : headDim * 4;
  const pageTable = c.pageTable + 4 * (words[(c.pageStart >>> 2) + s] + firstPage);
  kernels[names.scores](q, qStep, pageTable, pages, keys, pageStride, headDim, scores, scoreStride, bitsOf(c.scale));

  for (let m = 0; m < size; m++) {
    const low = c.window > 0 ? Math.max(0, position + m * lineStep + 1 - c.window) : 0;
    const high = c.causal ? position + m * lineStep + 1 : end;
    const line = scores + m * scoreStride;
    kernels['softmax'](line + 4 * (low - base), high - low, factors + 4 * m);
    // What other lines of the tile see and this one does not weighs exactly nothing.
    const first = (line >>> 2) - base;
    for (let i = tileLow; i < low; i++) words[first + i] = 0;
    for (let i = high; i < tileHigh; i++) words[first + i] = 0;
  }

  const outStep = byRows ? c.heads * headDim * 4 : headDim * 4;
  const output = c.output + ((firstRow + row) * c.heads + head) * headDim * 4;
  let column = 0;
  for (let w = 0; w < names.mixes.length; w++) {
    const { width, name } = names.mixes[w];
    for (; column + width <= headDim; column += width) {
      kernels[name](
        scores + 4 * (tileLow - base),
        scoreStride,
        pageTable,
        tileLow - base,
        tileHigh - tileLow,
        keys + pageBytes + column * element,
        pageStride,
        headDim * element,
        factors,
        output + 4 * column,
        outStep,
      );
    }
  }
}
