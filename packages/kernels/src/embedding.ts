import { bid, f32, fma, idiv, min, tid, _, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import { defineKernel, input, integers, output, scalar, type KernelModule, type Specialisation } from './spec.ts';

const TUNING = { threads: [128, 256], turns: [1, 2, 4] } as const;
const OPTIONS = { type: ['bf16', 'f16', 'f32'], scaled: [false, true], positions: [false, true] } as const;

/**
 * Rows of a table by token id, optionally scaled (Gemma: by the root of the width) and with the row of a second table
 * added by position (BERT, GPT-2). Ids and positions must be rows of their tables.
 */
const embedding: KernelModule = defineKernel({
  name: 'embedding',
  summary: 'y[t] = table[ids[t]] * scale + position_table[positions[t]]',
  dims: {
    tokens: 'tokens',
    columns: 'elements of a row',
    vocabulary: 'rows of the table',
    positions: 'rows of the position table',
  },
  options: OPTIONS,
  tuning: TUNING,
  choose: () => ({ threads: 128, turns: 4 }),
  tables: { key: ({ tokens, columns }, options) => ({ ...options, tokens: rowBucket(tokens), columns }) },
  args: ({ tokens, columns, vocabulary, positions }, { type, scaled, positions: placed }) => ({
    ids: input('i32', [tokens], integers(vocabulary)),
    table: input(type, [vocabulary, columns]),
    ...(placed ? { positions: input('i32', [tokens], integers(positions)) } : {}),
    ...(placed ? { positionTable: input(type, [positions, columns]) } : {}),
    y: output(type, [tokens, columns], scaled || placed ? bound(1, 'one multiply-add in float32') : undefined),
    ...(scaled ? { scale: scalar('f32', Math.sqrt(columns)) } : {}),
    tokens: scalar('i32', tokens),
  }),
  trace: record,
  grid: ({ dims: { tokens, columns }, options: { type }, tuning: { threads, turns } }) => {
    const vectors = (tokens * columns) / vectorOf(columns, [type]);
    return [Math.ceil(vectors / (threads * turns)), 1, 1];
  },
  reference: ({ ids, table, positions, positionTable, scale }, { tokens, columns }) => {
    const y = new Float64Array(tokens * columns);
    const magnitude = new Float64Array(y.length);
    for (let at = 0; at < y.length; at++) {
      const [token, column] = [Math.floor(at / columns), at % columns];
      const value = table[ids[token] * columns + column] * (scale ?? 1);
      const place = positions && positionTable ? positionTable[positions[token] * columns + column] : 0;
      y[at] = value + place;
      magnitude[at] = Math.abs(value) + Math.abs(place);
    }
    return { y: { values: y, magnitude } };
  },
  roofline: ({ tokens, columns, positions }, { type, scaled, positions: placed }) => ({
    bytes:
      bytesOf(type, 2 * tokens * columns) +
      bytesOf('i32', tokens * (placed ? 2 : 1)) +
      bytesOf(type, placed ? Math.min(tokens, positions) * columns : 0),
    flops: tokens * columns * ((scaled ? 1 : 0) + (placed ? 1 : 0)),
  }),
  cases: [
    { dims: { tokens: 1, columns: 64, vocabulary: 11, positions: 1 } },
    { dims: { tokens: 7, columns: 1000, vocabulary: 100, positions: 1 }, options: { scaled: true } },
    { dims: { tokens: 5, columns: 257, vocabulary: 50, positions: 13 }, options: { positions: true, type: 'f32' } },
    {
      dims: { tokens: 3, columns: 768, vocabulary: 50, positions: 13 },
      options: { scaled: true, positions: true, type: 'f16' },
    },
    { dims: { tokens: 8192, columns: 4096, vocabulary: 128256, positions: 1 }, large: true },
  ],
});

export default embedding;

interface Tensors {
  readonly ids: Tensor;
  readonly table: Tensor;
  readonly positions?: Tensor;
  readonly positionTable?: Tensor;
  readonly y: Tensor;
  readonly scale?: f32;
  readonly tokens: i32;
}

function record({ dims, options, tuning }: Specialisation<typeof OPTIONS, typeof TUNING>): KernelIR {
  const { threads, turns } = tuning;
  const vector = vectorOf(dims.columns, [options.type]);
  const perRow = dims.columns / vector;
  return traceKernel('embedding', embedding.args(dims, options), threads, (t: Tensors) => {
    'use gpu';
    const total = t.tokens * perRow;
    const first = bid() * (threads * turns) + tid();
    const work = Array.from({ length: turns }, (_none, turn) => {
      'use gpu';
      const index = first + turn * threads;
      const known = min(index, total - 1);
      const token = idiv(known, perRow);
      const at = known - token * perRow;
      const row = vectorsOf(t.table(t.ids[token], _), vector)(_, at).load();
      const place =
        t.positions && t.positionTable && vectorsOf(t.positionTable(t.positions[token], _), vector)(_, at).load();
      return { live: index < total, token, at, row, place };
    });
    for (const { live, token, at, row, place } of work) {
      const exact = t.scale === undefined && !place;
      const y = exact
        ? row
        : row
            .to(f32)
            .map((e, i) => {
              'use gpu';
              const scale = t.scale ?? f32(1);
              return place ? fma(e, scale, f32(place[i])) : e * scale;
            })
            .to(t.y.type);
      if (live) vectorsOf(t.y(token, _), vector)(_, at).store(y);
    }
  });
}
