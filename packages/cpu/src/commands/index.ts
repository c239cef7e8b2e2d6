import { attention, cache, type AttentionFields, type CacheFields } from './attention.ts';
import { linear, type LinearFields } from './linear.ts';
import { choice, flag, float, int, RecordType, signed } from './record.ts';
import {
  activate,
  embed,
  gate,
  gather,
  norm,
  normalize,
  pool,
  summarize,
  type ActivateFields,
  type EmbedFields,
  type GateFields,
  type GatherFields,
  type NormFields,
  type NormalizeFields,
  type PoolFields,
  type SummarizeFields,
} from './rows.ts';
import { pack, type PackFields } from './pack.ts';
import {
  linearQuantized,
  packQuantized,
  quantize,
  type LinearQuantizedFields,
  type PackQuantizedFields,
  type QuantizeFields,
} from './quantized.ts';
import type { ThreadArena } from './thread.ts';

const formats = choice(['f32', 'bf16']);
const quantizedFormats = choice(['int8', 'int4']);
const layout = { sequences: int, rowStart: int, start: int, pageStart: int, pageTable: int };
const linearShape = {
  input: int,
  inputStride: int,
  weight: int,
  outputs: int,
  inputs: int,
  bias: int,
  output: int,
  rows: int,
  activation: signed,
};
const packShape = {
  weight: int,
  inputs: int,
  firstRow: int,
  rows: int,
  source: int,
  dtype: choice(['F32', 'F16', 'BF16']),
};
const layer = { pages: int, dtype: formats, kvHeads: int, headDim: int };

interface Command<T extends object> {
  readonly type: RecordType<T>;
  readonly run: (fields: T, thread: ThreadArena) => void;
}

function command<T extends object>(run: Command<T>['run'], type: RecordType<T>): Command<T> {
  return { type, run };
}

interface CommandFields {
  embed: EmbedFields;
  norm: NormFields;
  linear: LinearFields;
  quantize: QuantizeFields;
  linearQuantized: LinearQuantizedFields;
  cache: CacheFields;
  attention: AttentionFields;
  gate: GateFields;
  activate: ActivateFields;
  gather: GatherFields;
  pool: PoolFields;
  normalize: NormalizeFields;
  summarize: SummarizeFields;
  pack: PackFields;
  packQuantized: PackQuantizedFields;
}

/** Every kind of command: its record and what a thread does for it. A command's number is its place here. */
const commands: { readonly [N in keyof CommandFields]: Command<CommandFields[N]> } = {
  embed: command(
    embed,
    new RecordType<EmbedFields>({
      layout: choice(['table', 'packed']),
      format: formats,
      table: int,
      index: int,
      output: int,
      rows: int,
      width: int,
      accumulate: flag,
    }),
  ),
  norm: command(
    norm,
    new RecordType<NormFields>({
      kind: choice(['rms', 'layer']),
      epsilon: float,
      input: int,
      add: int,
      sum: int,
      weight: int,
      bias: int,
      output: int,
      rows: int,
      width: int,
    }),
  ),
  linear: command(linear, new RecordType<LinearFields>({ ...linearShape, format: formats })),
  quantize: command(
    quantize,
    new RecordType<QuantizeFields>({ format: quantizedFormats, input: int, inputStride: int, inputs: int, rows: int }),
  ),
  linearQuantized: command(
    linearQuantized,
    new RecordType<LinearQuantizedFields>({ ...linearShape, format: quantizedFormats }),
  ),
  cache: command(
    cache,
    new RecordType<CacheFields>({
      ...layout,
      ...layer,
      qkv: int,
      heads: int,
      rows: int,
      qWeight: int,
      kWeight: int,
      epsilon: float,
      ropeDim: int,
      cos: int,
      sin: int,
    }),
  ),
  attention: command(
    attention,
    new RecordType<AttentionFields>({
      ...layout,
      ...layer,
      q: int,
      qStride: int,
      output: int,
      heads: int,
      causal: flag,
      window: int,
      scale: float,
    }),
  ),
  gate: command(
    gate,
    new RecordType<GateFields>({ input: int, output: int, rows: int, size: int, activation: signed }),
  ),
  activate: command(
    activate,
    new RecordType<ActivateFields>({ input: int, rows: int, width: int, activation: signed }),
  ),
  gather: command(gather, new RecordType<GatherFields>({ input: int, index: int, output: int, rows: int, width: int })),
  pool: command(
    pool,
    new RecordType<PoolFields>({
      kind: choice(['cls', 'mean', 'max', 'mean_sqrt', 'last']),
      input: int,
      rowStart: int,
      output: int,
      sequences: int,
      width: int,
    }),
  ),
  normalize: command(normalize, new RecordType<NormalizeFields>({ input: int, rows: int, width: int })),
  summarize: command(summarize, new RecordType<SummarizeFields>({ input: int, rows: int, width: int, output: int })),
  pack: command(pack, new RecordType<PackFields>({ ...packShape, format: formats })),
  packQuantized: command(
    packQuantized,
    new RecordType<PackQuantizedFields>({ ...packShape, format: quantizedFormats }),
  ),
};

export type CommandName = keyof CommandFields;
export type FieldsOf<N extends CommandName> = CommandFields[N];

const numbers = Object.fromEntries(Object.keys(commands).map((name, i) => [name, i])) as Record<CommandName, number>;
const byNumber = Object.values(commands) as Command<object>[];

/** Append a command at `at`; returns where the next one goes. */
export function encode<N extends CommandName>(list: Int32Array, at: number, name: N, fields: FieldsOf<N>): number {
  const { type } = commands[name] as unknown as Command<FieldsOf<N>>;
  list[at] = numbers[name];
  type.encode(list, at + 1, fields);
  return at + 1 + type.words;
}

/** Do this thread's share of the command at `at`; returns where the next one stands. */
export function execute(list: Int32Array, at: number, thread: ThreadArena): number {
  const { type, run } = byNumber[list[at]];
  run(type.decode(list, at + 1), thread);
  return at + 1 + type.words;
}

/** Where the command after the one at `at` stands. */
export function skip(list: Int32Array, at: number): number {
  return at + 1 + byNumber[list[at]].type.words;
}
