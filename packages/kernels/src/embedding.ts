import { bid, f32, fma, idiv, max, min, tid, _, type Fragment, type i32, type KernelIR, type Tensor } from '@rose/cute';
import { rowBucket } from './support/bucket.ts';
import { vectorsOf } from './support/rows.ts';
import { traceKernel } from './support/trace.ts';
import { bound } from './support/rounding.ts';
import { vectorOf } from './support/row-plan.ts';
import { bytesOf } from './support/storage.ts';
import {
  defineKernel,
  input,
  integers,
  output,
  scalar,
  type Chosen,
  type KernelModule,
  type Specialisation,
} from './spec.ts';

const TUNING = { threads: [128, 256], turns: [1, 2, 4] } as const;
const OPTIONS = {
  type: ['bf16', 'f16', 'f32'],
  scaled: [false, true],
  positions: [false, true],
  types: [false, true],
  /** Some ids are what the step before drew, and the host need not know them yet. */
  fed: [false, true],
} as const;
type Options = Chosen<typeof OPTIONS>;

/**
 * Rows of a table by token id, optionally scaled (Gemma: by the root of the width), with the row of a second table
 * added by position (BERT, GPT-2) and of a third by token type (BERT). Ids, positions and types must be rows of their tables.
 *
 * `fed`: where fed[t] is not -1, the id of token t is drawn[fed[t]], or 0 where nothing was drawn (-1), else ids[t].
 *
 * Without a scale and other tables rows are copied, so this also gathers rows of activations (those whose logits are
 * wanted): the activations are the table, the numbers of their rows the ids.
 */
const embedding: KernelModule = defineKernel({
  name: 'embedding',
  summary:
    'y[t] = table[ids[t]] * scale + position_table[positions[t]] + type_table[types[t]]; ids from the step before on demand',
  dims: {
    tokens: 'tokens',
    columns: 'elements of a row',
    vocabulary: 'rows of the table',
  },
  optionalDims: {
    positions: 'rows of the position table',
    types: 'rows of the table of token types',
    drawn: 'tokens that the step before drew',
  },
  options: OPTIONS,
  tuning: TUNING,
  refuse: ({ dims, options }) => {
    const missing = (['positions', 'types'] as const).find((size) => options[size] && dims[size] === undefined);
    if (missing) return `${missing}=true needs the size ${missing}, rows of the table`;
    return options.fed && dims.drawn === undefined
      ? 'fed=true needs the size drawn, tokens of the step before'
      : undefined;
  },
  choose: () => ({ threads: 128, turns: 4 }),
  tables: { key: ({ tokens, columns }, options) => ({ ...options, tokens: rowBucket(tokens), columns }) },
  args: ({ tokens, columns, vocabulary, positions, types, drawn }, options) => ({
    ids: input('i32', [tokens], integers(vocabulary)),
    ...(options.fed ? { fed: input('i32', [tokens], integers(drawn, -1)) } : {}),
    ...(options.fed ? { drawn: input('i32', [drawn], integers(vocabulary, -1)) } : {}),
    table: input(options.type, [vocabulary, columns]),
    ...(options.positions ? { positions: input('i32', [tokens], integers(positions)) } : {}),
    ...(options.positions ? { positionTable: input(options.type, [positions, columns]) } : {}),
    ...(options.types ? { types: input('i32', [tokens], integers(types)) } : {}),
    ...(options.types ? { typeTable: input(options.type, [types, columns]) } : {}),
    y: output(
      options.type,
      [tokens, columns],
      isCopy(options) ? undefined : bound(3, 'a multiply-add and an addition in float32'),
    ),
    ...(options.scaled ? { scale: scalar('f32', Math.sqrt(columns)) } : {}),
    tokens: scalar('i32', tokens),
  }),
  trace: record,
  grid: ({ dims: { tokens, columns }, options: { type }, tuning: { threads, turns } }) => {
    const vectors = (tokens * columns) / vectorOf(columns, [type]);
    return [Math.ceil(vectors / (threads * turns)), 1, 1];
  },
  reference: ({ ids, fed, drawn, table, scale, ...beside }, { tokens, columns }) => {
    const y = new Float64Array(tokens * columns);
    const magnitude = new Float64Array(y.length);
    const { positions, positionTable, types, typeTable } = beside;
    for (let at = 0; at < y.length; at++) {
      const [token, column] = [Math.floor(at / columns), at % columns];
      const id = fed && drawn && fed[token] >= 0 ? Math.max(0, drawn[fed[token]]) : ids[token];
      const terms = [
        table[id * columns + column] * (scale ?? 1),
        positions && positionTable ? positionTable[positions[token] * columns + column] : 0,
        types && typeTable ? typeTable[types[token] * columns + column] : 0,
      ];
      y[at] = terms.reduce((sum, term) => sum + term, 0);
      magnitude[at] = terms.reduce((sum, term) => sum + Math.abs(term), 0);
    }
    return { y: { values: y, magnitude } };
  },
  roofline: ({ tokens, columns, positions, types }, options) => {
    const table = (rows: number): number => bytesOf(options.type, Math.min(tokens, rows) * columns);
    return {
      bytes:
        bytesOf(options.type, 2 * tokens * columns) +
        bytesOf('i32', tokens * (1 + Number(options.positions) + Number(options.types) + Number(options.fed))) +
        (options.positions ? table(positions) : 0) +
        (options.types ? table(types) : 0),
      flops: tokens * columns * (Number(options.scaled) + Number(options.positions) + Number(options.types)),
    };
  },
  cases: [
    { dims: { tokens: 1, columns: 64, vocabulary: 11 } },
    { dims: { tokens: 7, columns: 1000, vocabulary: 100 }, options: { scaled: true } },
    { dims: { tokens: 5, columns: 257, vocabulary: 50, positions: 13 }, options: { positions: true, type: 'f32' } },
    {
      dims: { tokens: 3, columns: 768, vocabulary: 50, positions: 13 },
      options: { scaled: true, positions: true, type: 'f16' },
    },
    {
      dims: { tokens: 9, columns: 72, vocabulary: 50, positions: 13, types: 2 },
      options: { positions: true, types: true },
    },
    { dims: { tokens: 9, columns: 72, vocabulary: 50, drawn: 4 }, options: { fed: true } },
    {
      dims: { tokens: 5, columns: 36, vocabulary: 50, drawn: 1, types: 3 },
      options: { fed: true, types: true, scaled: true, type: 'f32' },
    },
    { dims: { tokens: 8192, columns: 4096, vocabulary: 128256 }, large: true },
    {
      dims: { tokens: 32768, columns: 768, vocabulary: 30522, positions: 512, types: 2 },
      options: { positions: true, types: true },
      large: true,
    },
  ],
});

export default embedding;

/** Whether rows are copied as they are. */
function isCopy({ scaled, positions, types }: Options): boolean {
  return !scaled && !positions && !types;
}

interface Tensors {
  readonly ids: Tensor;
  readonly fed?: Tensor;
  readonly drawn?: Tensor;
  readonly table: Tensor;
  readonly positions?: Tensor;
  readonly positionTable?: Tensor;
  readonly types?: Tensor;
  readonly typeTable?: Tensor;
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
    const idOf = (token: i32): i32 => {
      'use gpu';
      if (!t.fed || !t.drawn) return t.ids[token];
      const from = t.fed[token];
      return from < 0 ? t.ids[token] : max(t.drawn[max(from, 0)], 0);
    };
    const work = Array.from({ length: turns }, (_none, turn) => {
      'use gpu';
      const index = first + turn * threads;
      const known = min(index, total - 1);
      const token = idiv(known, perRow);
      const at = known - token * perRow;
      const rowOf = (table: Tensor, row: i32): Fragment => vectorsOf(table(row, _), vector)(_, at).load();
      const row = rowOf(t.table, idOf(token));
      const place = t.positions && t.positionTable && rowOf(t.positionTable, t.positions[token]);
      const kind = t.types && t.typeTable && rowOf(t.typeTable, t.types[token]);
      return { live: index < total, token, at, row, place, kind };
    });
    for (const { live, token, at, row, place, kind } of work) {
      const y = isCopy(options)
        ? row
        : row
            .to(f32)
            .map((e, i) => {
              'use gpu';
              const scale = t.scale ?? f32(1);
              const sum = place ? fma(e, scale, f32(place[i])) : e * scale;
              return kind ? sum + f32(kind[i]) : sum;
            })
            .to(t.y.type);
      if (live) vectorsOf(t.y(token, _), vector)(_, at).store(y);
    }
  });
}
