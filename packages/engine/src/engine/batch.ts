/**
 * One step as one flat record: counts and typed arrays over a single buffer, without pointers, so that it can cross to
 * a device or another process as it is. The engine fills it; a device reads it.
 *
 * Sequence s has rows [rowStart[s], rowStart[s + 1]); its first row stands at absolute position start[s], and its pages
 * are pageTable[pageStart[s] ..]. Output o is row outputRows[o], and draws with the sampling fields at index o.
 */
export class Batch {
  rows = 0;
  sequences = 0;
  outputs = 0;
  pages = 0;
  biases = 0;
  history = 0;

  readonly capacity: BatchCapacity;
  /** Token id, absolute position and token type of each row. */
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly types: Int32Array;
  readonly rowStart: Int32Array;
  readonly start: Int32Array;
  readonly pageStart: Int32Array;
  readonly pageTable: Int32Array;
  readonly outputRows: Int32Array;

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
  /** Biases of output o: entries [biasStart[o], biasStart[o + 1]) of biasTokens and biasValues. */
  readonly biasStart: Int32Array;
  biasTokens: Int32Array;
  biasValues: Float32Array;
  /**
   * Tokens the penalties of output o look at: historyTokens[historyStart[o] .. historyStart[o + 1]), of which those from
   * historyAnswer[o] on (an index of the same array) belong to the answer. Empty where no penalty is set.
   */
  readonly historyStart: Int32Array;
  readonly historyAnswer: Int32Array;
  historyTokens: Int32Array;

  constructor(capacity: BatchCapacity) {
    this.capacity = capacity;
    const { rows, sequences, pages } = capacity;
    const layout = new FlatLayout();
    const fields = {
      seed: layout.add(2 * sequences),
      tokens: layout.add(rows),
      positions: layout.add(rows),
      types: layout.add(rows),
      rowStart: layout.add(sequences + 1),
      start: layout.add(sequences),
      pageStart: layout.add(sequences + 1),
      pageTable: layout.add(pages),
      outputRows: layout.add(sequences),
      temperature: layout.add(sequences),
      topK: layout.add(sequences),
      topP: layout.add(sequences),
      minP: layout.add(sequences),
      repetitionPenalty: layout.add(sequences),
      presencePenalty: layout.add(sequences),
      frequencyPenalty: layout.add(sequences),
      drawPosition: layout.add(sequences),
      logprobs: layout.add(sequences),
      biasStart: layout.add(sequences + 1),
      historyStart: layout.add(sequences + 1),
      historyAnswer: layout.add(sequences),
    };
    const buffer = new ArrayBuffer(layout.words * 4);
    const i32 = ([at, words]: Span): Int32Array => new Int32Array(buffer, at * 4, words);
    const f32 = ([at, words]: Span): Float32Array => new Float32Array(buffer, at * 4, words);
    this.seed = new Float64Array(buffer, fields.seed[0] * 4, sequences);
    this.tokens = i32(fields.tokens);
    this.positions = i32(fields.positions);
    this.types = i32(fields.types);
    this.rowStart = i32(fields.rowStart);
    this.start = i32(fields.start);
    this.pageStart = i32(fields.pageStart);
    this.pageTable = i32(fields.pageTable);
    this.outputRows = i32(fields.outputRows);
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
    this.historyStart = i32(fields.historyStart);
    this.historyAnswer = i32(fields.historyAnswer);
    // These two grow with what requests ask for; they start with room for ordinary ones.
    this.biasTokens = new Int32Array(256);
    this.biasValues = new Float32Array(256);
    this.historyTokens = new Int32Array(1024);
  }

  clear(): void {
    this.rows = 0;
    this.sequences = 0;
    this.outputs = 0;
    this.pages = 0;
    this.biases = 0;
    this.history = 0;
    this.rowStart[0] = 0;
    this.pageStart[0] = 0;
    this.biasStart[0] = 0;
    this.historyStart[0] = 0;
  }

  /** Append a sequence's rows: tokens[from .. to) of it, standing at absolute positions from .. to. */
  addSequence(tokens: Int32Array, types: Int32Array | undefined, from: number, to: number, pages: Int32Array): void {
    const count = to - from;
    const at = this.rows;
    this.tokens.set(tokens.subarray(from, to), at);
    for (let i = 0; i < count; i++) {
      this.positions[at + i] = from + i;
      this.types[at + i] = types === undefined ? 0 : types[from + i];
    }
    this.start[this.sequences] = from;
    this.pageTable.set(pages, this.pages);
    this.rows += count;
    this.pages += pages.length;
    this.sequences++;
    this.rowStart[this.sequences] = this.rows;
    this.pageStart[this.sequences] = this.pages;
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

  addHistory(tokens: Int32Array): void {
    const needed = this.history + tokens.length;
    if (needed > this.historyTokens.length) {
      this.historyTokens = grown(this.historyTokens, new Int32Array(2 * needed));
    }
    this.historyTokens.set(tokens, this.history);
    this.history = needed;
  }
}

export interface BatchCapacity {
  readonly rows: number;
  readonly sequences: number;
  /** Entries of the page table: the pages of all sequences of a step. */
  readonly pages: number;
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
