import { assert, RoseError } from '../errors.ts';
import type { Batch } from './batch.ts';
import type { QueueEntry } from './queue.ts';
import type { EngineRequest, GenerateCommand } from './request.ts';

/** A request while it waits and runs: its tokens so far, how many of them are computed, and its pages. */
export class Sequence implements QueueEntry {
  readonly id: number;
  readonly priority: number;
  readonly deadline: number | undefined;
  readonly command: GenerateCommand;
  cancelled = false;
  ended = false;

  /** Prompt and answer; as long as the sequence can become. */
  readonly tokens: Int32Array;
  readonly promptLength: number;
  /** Tokens known so far; 0 <= computed <= length <= tokens.length. */
  length: number;
  /** Tokens whose keys and values are in the pages (or will be after the present step). */
  computed = 0;
  readonly pagesNeeded: number;
  pages: Int32Array = new Int32Array(0);
  readonly #penalized: boolean;

  /**
   * @param context most tokens a sequence of this model can have
   * @throws RoseError `invalid` for a prompt that is empty, too long, or holds ids outside the vocabulary
   */
  constructor(
    request: EngineRequest,
    command: GenerateCommand,
    vocabSize: number,
    context: number,
    pageTokens: number,
  ) {
    const prompt = command.tokens;
    checkTokens(prompt, vocabSize, 'prompt');
    if (prompt.length >= context) {
      throw new RoseError(
        'invalid',
        `the prompt has ${prompt.length} tokens, but at most ${context - 1} fit the context of ${context} tokens ` +
          `with one token of answer`,
        { param: 'prompt' },
      );
    }
    this.id = request.id;
    this.priority = request.priority;
    this.deadline = request.deadline;
    this.command = command;
    this.promptLength = prompt.length;
    this.length = prompt.length;
    this.tokens = new Int32Array(Math.min(prompt.length + command.maxTokens, context));
    this.tokens.set(prompt);
    // The last token is only ever output, so it needs no place in the pages.
    this.pagesNeeded = Math.ceil((this.tokens.length - 1) / pageTokens);
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = command.sampling;
    this.#penalized = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
  }

  /** Whether the next row continues the answer; otherwise prompt rows are left. */
  get decoding(): boolean {
    return this.length > this.promptLength;
  }

  get full(): boolean {
    return this.length === this.tokens.length;
  }

  append(token: number): void {
    assert(this.length < this.tokens.length, 'a token after the end of its sequence');
    this.tokens[this.length++] = token;
  }

  stopsAt(token: number): boolean {
    return this.command.stopTokens.includes(token);
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
    batch.drawPosition[o] = this.length;
    batch.logprobs[o] = logprobs;

    for (const [token, bias] of sampling.logitBias) batch.addBias(token, bias);
    if (this.length - this.promptLength < minTokens) {
      for (const token of stopTokens) batch.addBias(token, -Infinity);
    }
    batch.biasStart[o + 1] = batch.biases;

    batch.historyAnswer[o] = batch.history + this.promptLength;
    if (this.#penalized) batch.addHistory(this.tokens.subarray(0, this.length));
    batch.historyStart[o + 1] = batch.history;
  }
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
