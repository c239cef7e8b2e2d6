import type {
  AttentionCommand,
  CacheCommand,
  EmbedCommand,
  LinearCommand,
  NormCommand,
  PackedMatrix,
  Program,
  SourceDtype,
  Activation,
} from './api.ts';
import { encode, type CommandName, type FieldsOf } from './commands/index.ts';
import { ACTIVATIONS } from './commands/fields.ts';
import { quantizedRowBytes } from './commands/quantized.ts';
import { scoreStride } from './commands/thread.ts';
import { CONTROL_WORDS, LIST } from './team/barrier.ts';
import { attendable, positive } from './invariants.ts';
import type { Team } from './team/team.ts';

const MOST_WORDS = CONTROL_WORDS - LIST;

/** Commands encoded one behind the other, ready to be walked by the team. See the interface. */
export class CommandList implements Program {
  readonly #team: Team;
  readonly #arena: number;
  #words = new Int32Array(4096);
  #used = 0;

  constructor(team: Team, arena: number) {
    this.#team = team;
    this.#arena = arena;
  }

  reset(): void {
    this.#used = 0;
  }

  run(): void {
    this.#team.run(this.#arena, this.#words, this.#used);
  }

  embed(c: EmbedCommand): void {
    positive('rows', c.rows);
    positive('width', c.width);
    if (c.accumulate === true) this.#reserved('row', 4 * c.width);
    const packed = 'outputs' in c.table;
    const format = 'outputs' in c.table ? c.table.format : c.table.dtype;
    if (format === 'int8' || format === 'int4') {
      throw new RangeError(`rows of a matrix packed as ${format} cannot be looked up: embed from a table`);
    }
    this.#append('embed', {
      layout: packed ? 'packed' : 'table',
      format,
      table: c.table.pointer,
      index: c.index,
      output: c.output,
      rows: c.rows,
      width: c.width,
      accumulate: c.accumulate ?? false,
    });
  }

  norm(c: NormCommand): void {
    positive('rows', c.rows);
    positive('width', c.width);
    if (c.add && !c.sum) this.#reserved('row', 4 * c.width);
    if (c.kind === 'layer' && !c.bias) throw new RangeError('a layer norm needs a bias');
    this.#append('norm', { ...c, add: c.add ?? 0, sum: c.sum ?? 0, bias: c.bias ?? 0 });
  }

  linear(c: LinearCommand): void {
    const { weight } = c;
    const { format, inputs, outputs } = weight;
    positive('rows', c.rows);
    this.#reserved('tile', 1);
    const shape = {
      input: c.input,
      inputStride: 4 * (c.inputStride ?? inputs),
      weight: weight.pointer,
      outputs,
      inputs,
      bias: c.bias ?? 0,
      output: c.output,
      rows: c.rows,
      activation: numberOf(c.activation),
    };
    if (format === 'f32' || format === 'bf16') {
      this.#append('linear', { ...shape, format });
      return;
    }
    this.#reserved('quantized', c.rows * quantizedRowBytes(inputs, format));
    this.#append('quantize', { ...shape, format });
    this.#append('linearQuantized', { ...shape, format });
  }

  cache(c: CacheCommand): void {
    positive('rows', c.rows);
    attendable(c.heads, c.cache);
    if (c.rope !== undefined && (c.rope.dim % 2 !== 0 || c.rope.dim > c.cache.headDim)) {
      throw new RangeError(`RoPE turns an even number of a head's ${c.cache.headDim} elements, not ${c.rope.dim}`);
    }
    this.#append('cache', {
      ...c.layout,
      pages: c.cache.pointer,
      dtype: c.cache.dtype,
      kvHeads: c.cache.kvHeads,
      headDim: c.cache.headDim,
      qkv: c.qkv,
      heads: c.heads,
      rows: c.rows,
      qWeight: c.qkNorm?.qWeight ?? 0,
      kWeight: c.qkNorm?.kWeight ?? 0,
      epsilon: c.qkNorm?.epsilon ?? 0,
      ropeDim: c.rope?.dim ?? 0,
      cos: c.rope?.cos ?? 0,
      sin: c.rope?.sin ?? 0,
    });
  }

  attention(c: AttentionCommand): void {
    attendable(c.heads, c.cache);
    positive('sequences', c.layout.sequences);
    positive('maxContext', c.maxContext);
    this.#reserved('scores', scoreStride(c.maxContext));
    this.#append('attention', {
      ...c.layout,
      pages: c.cache.pointer,
      dtype: c.cache.dtype,
      kvHeads: c.cache.kvHeads,
      headDim: c.cache.headDim,
      q: c.q,
      qStride: 4 * c.qStride,
      output: c.output,
      heads: c.heads,
      causal: c.mask === 'causal',
      window: c.window,
      scale: c.scale,
    });
  }

  gate(c: { input: number; output: number; rows: number; size: number; activation: Activation }): void {
    positive('rows', c.rows);
    positive('size', c.size);
    this.#append('gate', { ...c, activation: numberOf(c.activation) });
  }

  activate(c: { input: number; rows: number; width: number; activation: Activation }): void {
    positive('rows', c.rows);
    positive('width', c.width);
    this.#append('activate', { ...c, activation: numberOf(c.activation) });
  }

  gather(c: FieldsOf<'gather'>): void {
    positive('rows', c.rows);
    positive('width', c.width);
    this.#append('gather', c);
  }

  pool(c: FieldsOf<'pool'>): void {
    positive('sequences', c.sequences);
    positive('width', c.width);
    this.#append('pool', c);
  }

  normalize(c: FieldsOf<'normalize'>): void {
    positive('rows', c.rows);
    positive('width', c.width);
    this.#append('normalize', c);
  }

  summarize(c: FieldsOf<'summarize'>): void {
    positive('rows', c.rows);
    positive('width', c.width);
    this.#reserved('tile', 1);
    this.#append('summarize', c);
  }

  pack(matrix: PackedMatrix, firstRow: number, rows: number, source: number, dtype: SourceDtype): void {
    const { format, inputs, outputs } = matrix;
    if (!(firstRow >= 0 && rows >= 0 && firstRow + rows <= outputs)) {
      throw new RangeError(`rows ${firstRow} to ${firstRow + rows} do not lie within a matrix of ${outputs} rows`);
    }
    const shape = { weight: matrix.pointer, inputs, firstRow, rows, source, dtype };
    if (format === 'f32' || format === 'bf16') this.#append('pack', { ...shape, format });
    else this.#append('packQuantized', { ...shape, format });
  }

  /** Each thread's scratch must have room: commands that need some name the part and the bytes. */
  #reserved(part: 'tile' | 'row' | 'scores' | 'quantized', bytes: number): void {
    const { reserved } = this.#team.arena(this.#arena).scratch;
    if (bytes <= reserved[part]) return;
    throw new RangeError(`the command needs ${bytes} bytes of scratch (${part}): ${reserved[part]} are reserved`);
  }

  #append<N extends CommandName>(name: N, fields: FieldsOf<N>): void {
    if (this.#used + 64 > this.#words.length) {
      if (this.#words.length * 2 > MOST_WORDS) throw new RangeError('the command list is full');
      const longer = new Int32Array(this.#words.length * 2);
      longer.set(this.#words);
      this.#words = longer;
    }
    this.#used = encode(this.#words, this.#used, name, fields);
  }
}

function numberOf(activation: Activation | undefined): number {
  if (activation === undefined) return -1;
  const number = ACTIVATIONS.indexOf(activation);
  if (number < 0) throw new RangeError(`there is no activation '${activation}'`);
  return number;
}
