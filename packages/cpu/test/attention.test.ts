import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CacheDtype } from '@rose/cpu';
import { Bench, WAYS, bf16Values, close, random, sameBits } from './support.ts';

const ways = await Promise.all(WAYS.map((way) => Bench.open(way)));
const PAGES = 24;

interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: CacheDtype;
  readonly window?: number;
  readonly mask?: 'causal' | 'bidirectional';
  /** Turned elements of a head; 0: RoPE is left out. */
  readonly rope?: number;
  readonly qkNorm?: boolean;
}

/** A piece of a sequence that one step computes: its rows follow what earlier steps left in its pages. */
interface Piece {
  readonly sequence: number;
  readonly start: number;
  readonly rows: number;
}

const LENGTHS = [37, 1, 16, 21];
/** Pages of a sequence lie anywhere. */
const TABLES = [[17, 3, 9], [0], [23], [5, 4]];

/** q, k and v of a sequence's rows. */
function qkvOf(shape: Shape, sequence: number): Float32Array {
  return random(LENGTHS[sequence] * (shape.heads + 2 * shape.kvHeads) * shape.headDim, 100 + sequence);
}

const CONTEXT = 48;
const EPSILON = 1e-6;

function ropeTables(dim: number): { cos: Float32Array; sin: Float32Array } {
  const angle = (i: number): number => Math.floor(i / (dim / 2)) * 100 ** (-(i % (dim / 2)) / (dim / 2));
  const angles = Float64Array.from({ length: (CONTEXT * dim) / 2 }, (_, i) => angle(i));
  return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) };
}

/**
 * Run steps one after the other, each a batch of pieces, over pages that begin full of NaN. Returns each sequence's
 * outputs, row by row.
 */
function attend(bench: Bench, shape: Shape, steps: readonly (readonly Piece[])[]): Float32Array[] {
  const { heads, kvHeads, headDim, dtype } = shape;
  const width = heads * headDim;
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  const { arena } = bench;
  const mark = arena.used;
  const outputs = LENGTHS.map((rows) => new Float32Array(rows * width));
  const cacheFloats = (PAGES * kvHeads * 2 * 16 * headDim) / (dtype === 'bf16' ? 2 : 1);
  const cache = { pointer: bench.room(cacheFloats), dtype, kvHeads, headDim };
  arena.u8(cache.pointer, 4 * cacheFloats).fill(0xff);
  const qkNorm = {
    qWeight: bench.floats(random(headDim, 7)),
    kWeight: bench.floats(random(headDim, 8)),
    epsilon: EPSILON,
  };
  const tables = ropeTables(shape.rope ?? 0);
  const rope = { cos: bench.floats(tables.cos), sin: bench.floats(tables.sin), dim: shape.rope ?? 0 };
  for (const pieces of steps) {
    const rows = pieces.reduce((total, piece) => total + piece.rows, 0);
    bench.run((program) => {
      const qkv = bench.room(rows * qkvWidth);
      const rowStart = [0];
      const pageStart = [0];
      for (const { sequence, start, rows: count } of pieces) {
        const from = qkvOf(shape, sequence).subarray(start * qkvWidth, (start + count) * qkvWidth);
        arena.f32(qkv + 4 * rowStart.at(-1)! * qkvWidth, from.length).set(from);
        rowStart.push(rowStart.at(-1)! + count);
        pageStart.push(pageStart.at(-1)! + TABLES[sequence].length);
      }
      const layout = {
        sequences: pieces.length,
        rowStart: bench.ints(rowStart),
        start: bench.ints(pieces.map(({ start }) => start)),
        pageStart: bench.ints(pageStart.slice(0, -1)),
        pageTable: bench.ints(pieces.flatMap(({ sequence }) => TABLES[sequence])),
      };
      const output = bench.room(rows * width);
      program.cache({
        ...{ qkv, rows, heads, cache, layout },
        ...(shape.qkNorm === true ? { qkNorm } : {}),
        ...(rope.dim > 0 ? { rope } : {}),
      });
      program.attention({
        ...{ q: qkv, qStride: qkvWidth, output, heads, cache, layout, scale: headDim ** -0.5, maxContext: CONTEXT },
        mask: shape.mask ?? 'causal',
        window: shape.window ?? 0,
      });
      return () => {
        pieces.forEach(({ sequence, start, rows: count }, i) => {
          outputs[sequence].set(bench.read(output + 4 * rowStart[i] * width, count * width), start * width);
        });
      };
    });
  }
  arena.release(mark);
  return outputs;
}

/** All of a sequence at once. */
function whole(sequence: number): Piece {
  return { sequence, start: 0, rows: LENGTHS[sequence] };
}

/** A sequence in steps of `rows` rows. */
function chunks(sequence: number, rows: number): Piece[][] {
  const steps: Piece[][] = [];
  for (let start = 0; start < LENGTHS[sequence]; start += rows) {
    steps.push([{ sequence, start, rows: Math.min(rows, LENGTHS[sequence] - start) }]);
  }
  return steps;
}

const BATCH = [[0, 1, 2, 3].map(whole)];

/** Attention of one sequence in float64. */
function reference(shape: Shape, sequence: number): Float64Array {
  const { heads, kvHeads, headDim, rope: dim = 0 } = shape;
  const rows = LENGTHS[sequence];
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  const qkv = qkvOf(shape, sequence);
  const norms = [random(headDim, 7), random(headDim, 8)];
  const { cos, sin } = ropeTables(dim);
  const head = (row: number, h: number): number[] => {
    const values = Array.from(qkv.subarray(row * qkvWidth + h * headDim, row * qkvWidth + (h + 1) * headDim));
    if (h >= heads + kvHeads) return values;
    if (shape.qkNorm === true) {
      const scale = 1 / Math.sqrt(values.reduce((total, x) => total + x * x, 0) / headDim + EPSILON);
      values.forEach((x, i) => (values[i] = x * scale * norms[h < heads ? 0 : 1][i]));
    }
    for (let i = 0; i < dim / 2; i++) {
      const [a, b, c, s] = [values[i], values[dim / 2 + i], cos[(row * dim) / 2 + i], sin[(row * dim) / 2 + i]];
      values[i] = a * c - b * s;
      values[dim / 2 + i] = b * c + a * s;
    }
    return values;
  };
  const stored = (row: number, h: number): ArrayLike<number> =>
    shape.dtype === 'bf16' ? bf16Values(Float32Array.from(head(row, h))) : head(row, h);
  const output = new Float64Array(rows * heads * headDim);
  for (let h = 0; h < heads; h++) {
    const kv = Math.floor(h / (heads / kvHeads));
    const keys = Array.from({ length: rows }, (_, row) => stored(row, heads + kv));
    const values = Array.from({ length: rows }, (_, row) => stored(row, heads + kvHeads + kv));
    for (let row = 0; row < rows; row++) {
      const q = head(row, h);
      const seen = keys.map((_, at) => {
        const before = shape.mask === 'bidirectional' || at <= row;
        return before && (!shape.window || at > row - shape.window);
      });
      const weights = keys.map((key, at) =>
        seen[at] ? Math.exp(q.reduce((total, x, i) => total + x * key[i], 0) * headDim ** -0.5) : 0,
      );
      const total = weights.reduce((a, b) => a + b, 0);
      for (let i = 0; i < headDim; i++) {
        output[(row * heads + h) * headDim + i] =
          weights.reduce((acc, weight, at) => acc + weight * values[at][i], 0) / total;
      }
    }
  }
  return output;
}

const shapes: Record<string, Shape> = {
  ...Object.fromEntries(
    [4, 6, 20, 40, 64, 80, 96, 128].map((headDim) => [
      `heads of ${headDim}`,
      { heads: 2, kvHeads: 2, headDim, dtype: 'f32', rope: headDim },
    ]),
  ),
  'grouped queries': { heads: 6, kvHeads: 2, headDim: 16, dtype: 'f32', rope: 16 },
  'one key for all queries': { heads: 5, kvHeads: 1, headDim: 20, dtype: 'f32', rope: 8, qkNorm: true },
  'many queries on one key': { heads: 9, kvHeads: 1, headDim: 32, dtype: 'f32' },
  'a window of 1': { heads: 2, kvHeads: 2, headDim: 16, dtype: 'f32', window: 1 },
  'a window of 5, grouped': { heads: 4, kvHeads: 2, headDim: 16, dtype: 'f32', window: 5, rope: 16 },
  'a window of 16': { heads: 2, kvHeads: 2, headDim: 20, dtype: 'f32', window: 16 },
  'a window of 20': { heads: 4, kvHeads: 1, headDim: 32, dtype: 'bf16', window: 20, rope: 32, qkNorm: true },
  'bfloat16 pages': { heads: 2, kvHeads: 2, headDim: 16, dtype: 'bf16', rope: 16 },
  'bfloat16 pages, grouped': { heads: 4, kvHeads: 2, headDim: 64, dtype: 'bf16', rope: 64, qkNorm: true },
  'bfloat16 pages, heads of 80': { heads: 2, kvHeads: 1, headDim: 80, dtype: 'bf16' },
};

for (const [name, shape] of Object.entries(shapes)) {
  test(`${name}: alone, in a batch, in chunks, token by token, in every family and team, to the same bits`, () => {
    const expected = attend(ways[0], shape, BATCH);
    expected.forEach((rows, sequence) => {
      // Keys and values rounded to bfloat16 may be rounded the other way after RoPE and norm in float32.
      const bound = shape.dtype === 'bf16' && (shape.rope || shape.qkNorm) ? 4e-3 : 3e-6;
      close(rows, reference(shape, sequence), bound, `sequence ${sequence}`);
    });
    for (const bench of ways) {
      const same = (steps: Piece[][], sequence: number, how: string): void =>
        sameBits(
          attend(bench, shape, steps)[sequence],
          expected[sequence],
          `${how}, sequence ${sequence}, ${bench.name}`,
        );
      for (const sequence of [0, 1, 2, 3]) {
        same(BATCH, sequence, 'in a batch');
        same([[whole(sequence)]], sequence, 'alone');
      }
      for (const rows of [1, 3, 17]) same(chunks(0, rows), 0, `chunks of ${rows}`);
      // A prompt's chunks beside another sequence's tokens.
      const mixed = chunks(3, 1).map((step, i) => [...step, ...(chunks(0, 5)[i] ?? [])]);
      same(mixed, 3, 'tokens beside chunks');
      same(mixed, 0, 'chunks beside tokens');
    }
  });
}

for (const headDim of [20, 32, 64]) {
  test(`encoders: each row of heads of ${headDim} sees its whole sequence and nothing else`, () => {
    const shape: Shape = { heads: 3, kvHeads: 3, headDim, dtype: 'f32', mask: 'bidirectional' };
    const expected = attend(ways[0], shape, BATCH);
    expected.forEach((rows, sequence) => close(rows, reference(shape, sequence), 3e-6, `sequence ${sequence}`));
    for (const bench of ways) {
      for (const sequence of [0, 1, 2, 3]) {
        sameBits(attend(bench, shape, BATCH)[sequence], expected[sequence], `batch, ${bench.name}`);
        sameBits(attend(bench, shape, [[whole(sequence)]])[sequence], expected[sequence], `alone, ${bench.name}`);
      }
    }
  });
}

test('bfloat16 pages want heads of whole groups of 16', () => {
  assert.throws(() => attend(ways[0], { heads: 1, kvHeads: 1, headDim: 20, dtype: 'bf16' }, BATCH), {
    name: 'RangeError',
    message: /heads of 20.*multiple of 16/,
  });
});
