import type { TokenMask } from '../grammar/grammars.ts';

/**
 * One step as one flat record: counts and typed arrays over a single buffer, without pointers, so that it can cross to
 * a device or another process as it is. The engine fills it; a device reads it.
 *
 * Sequence s has rows [rowStart[s], rowStart[s + 1]); its first row stands at absolute position start[s], and its pages
 * in layer group g are pageTables[g][pageStart[s] ..]. Output o is row outputRows[o], and draws with the sampling fields
 * at index o; several outputs may have the same row.
 *
 * Target t is row targetRows[t] of which the next token is known, targetTokens[t]: its log-probability is wanted.
 */
export class Batch {
  rows = 0;
  sequences = 0;
  /** Rows of answers. */
  answers = 0;
  outputs = 0;
  targets = 0;
  pages = 0;
  biases = 0;
  masks = 0;
  history = 0;
  copies = 0;

  readonly capacity: BatchCapacity;
  /** Token id, absolute position and token type of each row. */
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly types: Int32Array;
  /**
   * Where a row's token comes from: -1, the token is in `tokens`; otherwise it is what the step before drew for its
   * output of this index, which the host need not know yet.
   */
  readonly fed: Int32Array;
  readonly rowStart: Int32Array;
  /** Whether a sequence's rows are of its answer: 1, or 0 where they are of its prompt. No sequence has both in a step. */
  readonly answer: Int32Array;
  readonly start: Int32Array;
  readonly pageStart: Int32Array;
  readonly pageTables: readonly Int32Array[];
  /** The state slot of each sequence, -1 where the model has none. A sequence that starts at position 0 starts afresh. */
  readonly slots: Int32Array;
  /**
   * Pages to copy before anything else, in order: page copyFrom[i] of group copyGroup[i] to page copyTo[i]. The group
   * behind the last one means state slots.
   */
  copyGroup: Int32Array;
  copyFrom: Int32Array;
  copyTo: Int32Array;
  readonly outputRows: Int32Array;

  readonly targetRows: Int32Array;
  readonly targetTokens: Int32Array;
  /** How many of the most likely tokens to report in each target's place. */
  readonly targetTop: Int32Array;

  /** See SamplingParams. The seed is split in two words; `drawPosition` is the position of the token to be drawn. */
  readonly temperature: Float32Array;
  readonly topK: Int32Array;
  readonly topP: Float32Array;
  readonly minP: Float32Array;
  readonly repetitionPenalty: Float32Array;
  readonly presencePenalty: Float32Array;
  readonly frequencyPenalty: Float32Array;
  readonly seed: Float64Array;
  readonly drawPosition: Int32Array;
  /** -1: none; otherwise how many of the most likely tokens to report besides the drawn one. */
  readonly logprobs: Int32Array;
  /**
   * What the grammar of each output allows, if it has one. These are no part of the record: a mask may not be there yet
   * when the step begins, and is waited for before the draw.
   */
  readonly grammars: (TokenMask | undefined)[];
  /**
   * Biases of output o: entries [biasStart[o], biasStart[o + 1]) of biasTokens and biasValues. -Infinity forbids a token;
   * of others a token has one at most.
   */
  readonly biasStart: Int32Array;
  biasTokens: Int32Array;
  biasValues: Float32Array;
  /**
   * The tokens that output o may draw: -1, all; otherwise the bits of mask maskOf[o], `maskWords` words each, where token
   * t is bit t % 32 of word t / 32.
   */
  readonly maskOf: Int32Array;
  maskBits: Int32Array;
  /**
   * The penalties of output o look at all tokens of its sequence. The device counts them in history historySlot[o] (-1: no
   * penalty is set) and is told of each once: historyTokens[historyStart[o] .. historyStart[o + 1]) are those from position
   * historyFrom[o] on, and 0 begins a new history. Those from position historyPrompt[o] on belong to the answer. There are as
   * many histories as sequences.
   */
  readonly historySlot: Int32Array;
  readonly historyFrom: Int32Array;
  readonly historyPrompt: Int32Array;
  readonly historyStart: Int32Array;
  historyTokens: Int32Array;

  constructor(capacity: BatchCapacity) {
    this.capacity = capacity;
    const { rows, sequences, outputs, pages, groups } = capacity;
    const layout = new FlatLayout();
    const fields = {
      seed: layout.add(2 * outputs),
      tokens: layout.add(rows),
      positions: layout.add(rows),
      types: layout.add(rows),
      fed: layout.add(rows),
      rowStart: layout.add(sequences + 1),
      answer: layout.add(sequences),
      start: layout.add(sequences),
      pageStart: layout.add(sequences + 1),
      pageTables: Array.from({ length: groups }, () => layout.add(pages)),
      slots: layout.add(sequences),
      outputRows: layout.add(outputs),
      targetRows: layout.add(rows),
      targetTokens: layout.add(rows),
      targetTop: layout.add(rows),
      temperature: layout.add(outputs),
      topK: layout.add(outputs),
      topP: layout.add(outputs),
      minP: layout.add(outputs),
      repetitionPenalty: layout.add(outputs),
      presencePenalty: layout.add(outputs),
      frequencyPenalty: layout.add(outputs),
      drawPosition: layout.add(outputs),
      logprobs: layout.add(outputs),
      biasStart: layout.add(outputs + 1),
      maskOf: layout.add(outputs),
      historyStart: layout.add(outputs + 1),
      historySlot: layout.add(outputs),
      historyFrom: layout.add(outputs),
      historyPrompt: layout.add(outputs),
    };
    const buffer = new ArrayBuffer(layout.words * 4);
    const i32 = ([at, words]: Span): Int32Array => new Int32Array(buffer, at * 4, words);
    const f32 = ([at, words]: Span): Float32Array => new Float32Array(buffer, at * 4, words);
    this.seed = new Float64Array(buffer, fields.seed[0] * 4, outputs);
    this.tokens = i32(fields.tokens);
    this.positions = i32(fields.positions);
    this.types = i32(fields.types);
    this.fed = i32(fields.fed);
    this.rowStart = i32(fields.rowStart);
    this.answer = i32(fields.answer);
    this.start = i32(fields.start);
    this.pageStart = i32(fields.pageStart);
    this.pageTables = fields.pageTables.map(i32);
    this.slots = i32(fields.slots);
    this.outputRows = i32(fields.outputRows);
    this.targetRows = i32(fields.targetRows);
    this.targetTokens = i32(fields.targetTokens);
    this.targetTop = i32(fields.targetTop);
    this.temperature = f32(fields.temperature);
    this.topK = i32(fields.topK);
    this.topP = f32(fields.topP);
    this.minP = f32(fields.minP);
    this.repetitionPenalty = f32(fields.repetitionPenalty);
    this.presencePenalty = f32(fields.presencePenalty);
    this.frequencyPenalty = f32(fields.frequencyPenalty);
    this.drawPosition = i32(fields.drawPosition);
    this.logprobs = i32(fields.logprobs);
    this.biasStart = i32(fields.biasStart);
    this.maskOf = i32(fields.maskOf);
    this.historyStart = i32(fields.historyStart);
    this.historySlot = i32(fields.historySlot);
    this.historyFrom = i32(fields.historyFrom);
    this.historyPrompt = i32(fields.historyPrompt);
    this.grammars = Array.from({ length: outputs }, () => undefined);
    // These grow with what requests ask for; they start with room for ordinary ones.
    this.copyGroup = new Int32Array(64);
    this.copyFrom = new Int32Array(64);
    this.copyTo = new Int32Array(64);
    this.biasTokens = new Int32Array(256);
    this.biasValues = new Float32Array(256);
    this.historyTokens = new Int32Array(1024);
    this.maskBits = new Int32Array(0);
  }

  clear(): void {
    this.rows = 0;
    this.sequences = 0;
    this.answers = 0;
    this.outputs = 0;
    this.targets = 0;
    this.pages = 0;
    this.biases = 0;
    this.masks = 0;
    this.history = 0;
    this.copies = 0;
    this.rowStart[0] = 0;
    this.pageStart[0] = 0;
    this.biasStart[0] = 0;
    this.historyStart[0] = 0;
  }

  /**
   * Append a sequence's rows: tokens[from .. to) of it, standing at absolute positions from .. to.
   * @param tables its pages by group and by position; the first `pages` entries count
   * @param answer whether the tokens are of its answer
   */
  addSequence(
    tokens: Int32Array,
    types: Int32Array | undefined,
    from: number,
    to: number,
    tables: readonly Int32Array[],
    pages: number,
    slot = -1,
    answer = false,
  ): void {
    // Loops over numbers, because views and iterators would be garbage in every step.
    for (let i = from, at = this.rows; i < to; i++, at++) {
      this.tokens[at] = tokens[i];
      this.positions[at] = i;
      this.types[at] = types === undefined ? 0 : types[i];
      this.fed[at] = -1;
    }
    this.#endSequence(from, to - from, tables, pages, slot, answer);
  }

  /** Append one row whose token is output `output` of the step before, at absolute position `position`. */
  addFedRow(output: number, position: number, tables: readonly Int32Array[], pages: number, slot: number): void {
    this.tokens[this.rows] = 0;
    this.positions[this.rows] = position;
    this.types[this.rows] = 0;
    this.fed[this.rows] = output;
    this.#endSequence(position, 1, tables, pages, slot, true);
  }

  #endSequence(
    from: number,
    rows: number,
    tables: readonly Int32Array[],
    pages: number,
    slot: number,
    answer: boolean,
  ): void {
    this.start[this.sequences] = from;
    this.answer[this.sequences] = answer ? 1 : 0;
    this.slots[this.sequences] = slot;
    for (let group = 0; group < this.pageTables.length; group++) {
      const target = this.pageTables[group];
      const table = tables[group];
      // One call is several times as fast as a loop; a view made for it would be garbage in every step.
      if (table.length === pages) target.set(table, this.pages);
      else for (let i = 0, at = this.pages; i < pages; i++, at++) target[at] = table[i];
    }
    this.rows += rows;
    if (answer) this.answers += rows;
    this.pages += pages;
    this.sequences++;
    this.rowStart[this.sequences] = this.rows;
    this.pageStart[this.sequences] = this.pages;
  }

  /** Copy a page of a group, or a state slot (the group behind the last), before the step's rows run. */
  addCopy(group: number, from: number, to: number): void {
    if (this.copies === this.copyGroup.length) {
      this.copyGroup = grown(this.copyGroup, new Int32Array(2 * this.copies));
      this.copyFrom = grown(this.copyFrom, new Int32Array(2 * this.copies));
      this.copyTo = grown(this.copyTo, new Int32Array(2 * this.copies));
    }
    this.copyGroup[this.copies] = group;
    this.copyFrom[this.copies] = from;
    this.copyTo[this.copies] = to;
    this.copies++;
  }

  /** Ask for the log-probability of `token` behind `row`, and of the `top` most likely ones. */
  addTarget(row: number, token: number, top: number): void {
    this.targetRows[this.targets] = row;
    this.targetTokens[this.targets] = token;
    this.targetTop[this.targets++] = top;
  }

  /** Append a mask over the vocabulary; returns its number. All masks of a batch have the same length. */
  addMask(bits: Int32Array): number {
    const at = this.masks * bits.length;
    if (at + bits.length > this.maskBits.length) {
      this.maskBits = grown(this.maskBits, new Int32Array(2 * (at + bits.length)));
    }
    this.maskBits.set(bits, at);
    return this.masks++;
  }

  addBias(token: number, value: number): void {
    if (this.biases === this.biasTokens.length) {
      this.biasTokens = grown(this.biasTokens, new Int32Array(2 * this.biases));
      this.biasValues = grown(this.biasValues, new Float32Array(2 * this.biases));
    }
    this.biasTokens[this.biases] = token;
    this.biasValues[this.biases] = value;
    this.biases++;
  }

  /** Tokens[from .. to) go on with an output's history. */
  addHistory(tokens: Int32Array, from: number, to: number): void {
    const needed = this.history + to - from;
    if (needed > this.historyTokens.length) {
      this.historyTokens = grown(this.historyTokens, new Int32Array(2 * needed));
    }
    for (let i = from, at = this.history; i < to; i++, at++) this.historyTokens[at] = tokens[i];
    this.history = needed;
  }
}

export interface BatchCapacity {
  readonly rows: number;
  readonly sequences: number;
  /** Rows of logits. */
  readonly outputs: number;
  /** Entries of a page table: the pages of all sequences of a step. */
  readonly pages: number;
  /** Layer groups, each with a page table of its own. */
  readonly groups: number;
}

type Span = readonly [at: number, words: number];

/** Places fields one behind the other, in 32-bit words. */
class FlatLayout {
  words = 0;
  add(words: number): Span {
    const at = this.words;
    this.words += words;
    return [at, words];
  }
}

function grown<T extends Int32Array | Float32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
