import { assert, RoseError } from '../errors.ts';
import type { TokenMask } from '../grammar/grammars.ts';
import type { Batch } from './batch.ts';
import type { KvTables } from './kv-cache.ts';
import type { QueueEntry } from './queue.ts';
import type { EngineRequest, GenerateCommand, SamplingParams } from './request.ts';

/**
 * A request while it waits and runs. Four lengths say how far it is, and always
 * 0 <= computed <= scheduled <= drawn and computed <= length <= drawn <= limit:
 *
 * - `computed`: tokens whose keys and values are in the pages;
 * - `scheduled`: tokens handed to the device, some of them perhaps in a step that still runs;
 * - `length`: tokens known here;
 * - `drawn`: tokens known or being drawn by a step that still runs.
 */
export class Sequence implements QueueEntry {
  readonly id: number;
  readonly tenant: string;
  readonly priority: number;
  readonly deadline: number | undefined;
  readonly arrivedAt: number;
  readonly command: GenerateCommand;
  arrival = 0;
  rank = 0;
  cancelled = false;
  ended = false;

  /** Prompt and answer, in an array that grows with them. */
  tokens: Int32Array;
  readonly promptLength: number;
  /** As long as the sequence can become. */
  readonly limit: number;
  computed = 0;
  scheduled = 0;
  length: number;
  drawn: number;
  /** Its memory while it runs. */
  tables: KvTables | undefined;
  /** Tokens that were known when it began to run: their rows are fed in chunks; one row at a time follows. */
  prefillEnd = 0;
  /** Where its pages are shared next, once that many tokens are computed: a whole number of pages. */
  shareAt = 0;
  /** The output of the step before, where that one drew for this sequence. */
  lastOutput = -1;
  /** The step that carries rows of it last. */
  step = -1;
  /** How often it began to run and had to yield. */
  run = 0;
  /** Rows of the prompt of which nothing is to be told any more, from the first on; the last one has no target. */
  reported: number;
  /** Prompt tokens that were found computed when it first ran; -1 before. */
  cachedTokens = -1;
  /** How often it gave its place to others; memory that ran out does not count. */
  turns = 0;
  /** Why it has to leave though nobody asked it to. */
  fault: RoseError | undefined;
  /** Steps that failed with it in them and nobody to blame; see `Trials`. */
  unexplained = 0;
  /** Others with the same prompt, which wait to begin where its prompt ends. */
  readonly siblings: Sequence[] = [];
  /** The one it waits for, while it waits so. */
  elder: Sequence | undefined;
  /** Whether penalties look at its tokens, and of how many of them the device's history was told. */
  readonly looksBack: boolean;
  historyTold = 0;
  /** How its draws look back: those need to know all tokens before. */
  readonly needsTokens: boolean;
  readonly #mask: Int32Array | undefined;
  /** Which tokens its grammar allows next, if it has one. */
  readonly grammar: TokenMask | undefined;

  /**
   * @param context most tokens a sequence of this model can have
   * @param now milliseconds, on the clock of deadlines
   * @throws RoseError `invalid` for a prompt that is empty, too long, or holds ids outside the vocabulary
   */
  constructor(
    request: EngineRequest,
    command: GenerateCommand,
    vocabSize: number,
    context: number,
    now: number,
    grammar?: TokenMask,
  ) {
    const prompt = command.tokens;
    checkTokens(prompt, vocabSize, 'prompt');
    const most = command.maxTokens === 0 ? context : context - 1;
    if (prompt.length > most) {
      const answer = command.maxTokens === 0 ? '' : ' with one token of answer';
      const message = `the prompt has ${prompt.length} tokens, but at most ${most} fit the context of ${context} tokens`;
      throw new RoseError('invalid', message + answer, { param: 'prompt' });
    }
    this.id = request.id;
    this.tenant = request.tenant;
    this.priority = request.priority;
    this.deadline = request.deadline;
    this.arrivedAt = now;
    this.command = command;
    this.promptLength = prompt.length;
    this.length = prompt.length;
    this.drawn = prompt.length;
    this.limit = Math.min(prompt.length + command.maxTokens, context);
    this.tokens = new Int32Array(Math.min(this.limit, prompt.length + 64));
    this.tokens.set(prompt);
    this.reported = command.promptLogprobs < 0 ? prompt.length - 1 : 0;
    const { allowedTokens, badWords } = command.sampling;
    this.looksBack = looksBack(command.sampling);
    this.needsTokens = this.looksBack || badWords.some((word) => word.length > 1);
    if (allowedTokens !== undefined) this.#mask = maskOf(allowedTokens, vocabSize);
    this.grammar = grammar;
  }

  /** Whether the next row continues the answer; otherwise rows of known tokens are left. */
  get decoding(): boolean {
    return this.scheduled >= this.prefillEnd;
  }

  get begun(): boolean {
    return this.cachedTokens >= 0;
  }

  /** Whether the request itself forbids tokens now, and so perhaps all of them. */
  get constrained(): boolean {
    const { sampling, minTokens, stopTokens } = this.command;
    const early = this.length - this.promptLength < minTokens && stopTokens.length > 0;
    return early || sampling.allowedTokens !== undefined || sampling.badWords.length > 0;
  }

  /** Whether it has no more tokens to draw. */
  get full(): boolean {
    return this.drawn === this.limit;
  }

  /** Of how many tokens it may begin behind a prefix that is computed already: rows that are to be told of must run. */
  get reusable(): number {
    return this.reported < this.promptLength - 1 ? this.reported + 1 : this.length;
  }

  /** What it computes is found by sequences of the same salt alone. */
  get salt(): string {
    return this.command.salt === '' ? this.tenant : `${this.tenant}\n${this.command.salt}`;
  }

  append(token: number): void {
    assert(this.length < this.limit, 'a token after the end of its sequence');
    if (this.length === this.tokens.length) {
      const longer = new Int32Array(Math.min(this.limit, 2 * this.length));
      longer.set(this.tokens);
      this.tokens = longer;
    }
    this.tokens[this.length++] = token;
    if (this.drawn < this.length) this.drawn = this.length;
  }

  stopsAt(token: number): boolean {
    return this.command.stopTokens.includes(token);
  }

  /** Ask for what the model makes of the prompt's tokens behind those at [from, to), the last rows of the batch so far. */
  addTargets(batch: Batch, from: number, to: number): void {
    const { promptLogprobs } = this.command;
    const end = Math.min(to, this.promptLength - 1);
    for (let at = Math.max(from, this.reported); at < end; at++) {
      batch.addTarget(batch.rows - (to - at), this.tokens[at + 1], promptLogprobs);
    }
  }

  /** Ask for the token behind `row`, with everything its draw depends on. */
  addOutput(batch: Batch, row: number): void {
    const { sampling, stopTokens, minTokens, logprobs } = this.command;
    const o = batch.outputs++;
    batch.outputRows[o] = row;
    batch.temperature[o] = sampling.temperature;
    batch.topK[o] = sampling.topK;
    batch.topP[o] = sampling.topP;
    batch.minP[o] = sampling.minP;
    batch.repetitionPenalty[o] = sampling.repetitionPenalty;
    batch.presencePenalty[o] = sampling.presencePenalty;
    batch.frequencyPenalty[o] = sampling.frequencyPenalty;
    batch.seed[o] = sampling.seed;
    batch.drawPosition[o] = this.drawn;
    batch.logprobs[o] = logprobs;
    batch.grammars[o] = this.grammar;

    const { logitBias } = sampling;
    for (let i = 0; i < logitBias.length; i++) batch.addBias(logitBias[i][0], logitBias[i][1]);
    if (this.drawn - this.promptLength < minTokens) {
      for (let i = 0; i < stopTokens.length; i++) batch.addBias(stopTokens[i], -Infinity);
    }
    const { badWords } = sampling;
    for (let i = 0; i < badWords.length; i++) {
      if (this.#answerEndsLike(badWords[i])) batch.addBias(badWords[i][badWords[i].length - 1], -Infinity);
    }
    batch.biasStart[o + 1] = batch.biases;
    batch.maskOf[o] = this.#mask === undefined ? -1 : batch.addMask(this.#mask);

    batch.historySlot[o] = this.looksBack ? this.tables!.history : -1;
    batch.historyFrom[o] = this.historyTold;
    batch.historyPrompt[o] = this.promptLength;
    if (this.looksBack) {
      batch.addHistory(this.tokens, this.historyTold, this.length);
      this.historyTold = this.length;
    }
    batch.historyStart[o + 1] = batch.history;
    this.lastOutput = o;
    this.drawn++;
  }

  /** Whether the answer so far ends with all of the word but its last token. */
  #answerEndsLike(word: readonly number[]): boolean {
    const before = word.length - 1;
    const at = this.length - before;
    if (at < this.promptLength) return false;
    for (let i = 0; i < before; i++) if (this.tokens[at + i] !== word[i]) return false;
    return true;
  }
}

function looksBack({ repetitionPenalty, presencePenalty, frequencyPenalty }: SamplingParams): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** A bit for each token of the vocabulary; see `Batch.maskOf`. */
function maskOf(tokens: readonly number[], vocabSize: number): Int32Array {
  const bits = new Int32Array(Math.ceil(vocabSize / 32));
  for (const token of tokens) bits[token >>> 5] |= 1 << (token & 31);
  return bits;
}

/** @throws RoseError `invalid` naming the first id that is not in the vocabulary */
export function checkTokens(tokens: Int32Array, vocabSize: number, param: 'prompt' | 'input'): void {
  if (tokens.length === 0) throw new RoseError('invalid', `the ${param} has no tokens`, { param });
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] < 0 || tokens[i] >= vocabSize) {
      const message = `token ${tokens[i]} at index ${i} is not in the vocabulary of ${vocabSize} tokens`;
      throw new RoseError('invalid', message, { param });
    }
  }
}
