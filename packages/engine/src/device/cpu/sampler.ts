import type { Arena, Program } from '@rose/cpu';
import type { Batch } from '../../engine/batch.ts';
import { MAX_LOGPROBS, type StepResult } from '../device.ts';
import { penalised } from '../../sampling/penalties.ts';
import { drawToken, rankOf, topTokens, type LogitRow } from '../../sampling/draw.ts';

/**
 * Draws the next tokens of a step from its logits. Vector kernels summarise and scan the rows; the choice is that of
 * `drawToken`. Rows without penalties, bias and randomness cost one look at their summary.
 */
export class CpuSampler {
  readonly #vocabSize: number;
  readonly #logits: Float32Array;
  readonly #summary: Float32Array;
  readonly #summaryWords: Int32Array;
  readonly #summarize: (rows: number) => void;
  readonly #row: ArenaRow;
  /** log of the sum of exp of each row's raw logits. */
  readonly #logSum: Float64Array;
  /** For each row, the logits that bias and penalties changed, as they were: token -> raw logit. */
  readonly #before: readonly Map<number, number>[];
  /** By slot of the batch's histories: token -> occurrences in the answer (0: in the prompt alone). */
  readonly #histories: Map<number, number>[] = [];

  /** @param rows rows of logits that there is room for */
  constructor(arena: Arena, program: Program, logits: number, vocabSize: number, rows: number) {
    const summary = arena.alloc(rows * 16);
    this.#vocabSize = vocabSize;
    this.#logits = arena.f32(logits, rows * vocabSize);
    this.#summary = arena.f32(summary, rows * 4);
    this.#summaryWords = arena.i32(summary, rows * 4);
    this.#summarize = (count) => {
      program.reset();
      program.summarize({ input: logits, rows: count, width: vocabSize, output: summary });
      program.run();
    };
    this.#row = new ArenaRow(arena, logits, vocabSize);
    this.#logSum = new Float64Array(rows);
    this.#before = Array.from({ length: rows }, () => new Map<number, number>());
  }

  /** Bytes of the arena that a sampler takes. */
  static bytes(rows: number, vocabSize: number): number {
    return rows * 16 + 2 * vocabSize * 4 + 3 * 64;
  }

  /**
   * Fill the result's tokens and log-probabilities for the batch's outputs. A token of -1 says that a row has no
   * finite maximum: there is nothing to draw from.
   */
  sample(batch: Batch, result: StepResult): void {
    if (batch.outputs === 0) return;
    this.#summarize(batch.outputs);
    let adjusted = false;
    for (let o = 0; o < batch.outputs; o++) {
      this.#before[o].clear();
      // Log-probabilities speak of the model's own distribution, so they are taken before the logits change.
      this.#logSum[o] = this.#logSumOf(o);
      if (batch.logprobs[o] >= 0) this.#reportTop(o, batch.logprobs[o], result.topTokens, result.topLogprobs, o);
      if (hasAdjustments(batch, o)) {
        this.#adjust(batch, o);
        adjusted = true;
      }
    }
    if (adjusted) this.#summarize(batch.outputs);
    for (let o = 0; o < batch.outputs; o++) {
      const token = Number.isFinite(this.#summary[4 * o]) ? this.#draw(batch, o) : -1;
      result.tokens[o] = token;
      if (batch.logprobs[o] < 0 || token < 0) continue;
      const raw = this.#before[o].get(token) ?? this.#logits[o * this.#vocabSize + token];
      result.logprobs[o] = raw - this.#logSum[o];
    }
  }

  /** Fill the result for the batch's targets from `from` on, whose logits are the first `count` rows. */
  judge(batch: Batch, from: number, count: number, result: StepResult): void {
    const { targetLogprobs, targetRanks, targetTopTokens, targetTopLogprobs } = result;
    this.#summarize(count);
    for (let row = 0; row < count; row++) {
      const t = from + row;
      const maximum = this.#summary[4 * row];
      if (!Number.isFinite(maximum)) {
        targetRanks[t] = 0;
        continue;
      }
      this.#logSum[row] = this.#logSumOf(row);
      const token = batch.targetTokens[t];
      const logit = this.#logits[row * this.#vocabSize + token];
      targetLogprobs[t] = logit - this.#logSum[row];
      targetRanks[t] = rankOf(this.#row.select(row, maximum), token, logit);
      this.#reportTop(row, batch.targetTop[t], targetTopTokens, targetTopLogprobs, t);
    }
  }

  #logSumOf(row: number): number {
    return this.#summary[4 * row] + Math.log(this.#summary[4 * row + 2]);
  }

  /** Write the most likely tokens of a row of logits as entry `entry` of the result's lists. */
  #reportTop(row: number, most: number, tokens: Int32Array, logprobs: Float32Array, entry: number): void {
    const at = entry * MAX_LOGPROBS;
    const end = at + MAX_LOGPROBS;
    const logits = this.#row.select(row, this.#summary[4 * row]);
    const count = topTokens(logits, most, tokens.subarray(at, end), logprobs.subarray(at, end));
    for (let i = at; i < at + count; i++) logprobs[i] -= this.#logSum[row];
    tokens.fill(-1, at + count, end);
  }

  #draw(batch: Batch, o: number): number {
    const temperature = batch.temperature[o];
    if (temperature === 0) return this.#summaryWords[4 * o + 1];
    return drawToken(this.#row.select(o, this.#summary[4 * o]), {
      temperature,
      topK: batch.topK[o],
      topP: batch.topP[o],
      minP: batch.minP[o],
      seed: batch.seed[o],
      position: batch.drawPosition[o],
    });
  }

  /** The output's history, with the tokens that the batch tells of. */
  #historyOf(batch: Batch, o: number): Map<number, number> {
    const history = (this.#histories[batch.historySlot[o]] ??= new Map());
    let position = batch.historyFrom[o];
    if (position === 0) history.clear();
    for (let i = batch.historyStart[o]; i < batch.historyStart[o + 1]; i++) {
      const inAnswer = position++ >= batch.historyPrompt[o] ? 1 : 0;
      history.set(batch.historyTokens[i], (history.get(batch.historyTokens[i]) ?? 0) + inAnswer);
    }
    return history;
  }

  /** Bias, then penalties, then the mask, on the row's logits in place. */
  #adjust(batch: Batch, o: number): void {
    const logits = this.#logits.subarray(o * this.#vocabSize, (o + 1) * this.#vocabSize);
    const before = this.#before[o];
    const change = (token: number, value: number): void => {
      if (!before.has(token)) before.set(token, logits[token]);
      logits[token] = value;
    };
    for (let i = batch.biasStart[o]; i < batch.biasStart[o + 1]; i++) {
      const bias = batch.biasValues[i];
      change(batch.biasTokens[i], bias === -Infinity ? bias : logits[batch.biasTokens[i]] + bias);
    }
    if (batch.historySlot[o] >= 0) {
      const [repetition, presence] = [batch.repetitionPenalty[o], batch.presencePenalty[o]];
      const frequency = batch.frequencyPenalty[o];
      for (const [token, count] of this.#historyOf(batch, o)) {
        change(token, penalised(logits[token], count, repetition, presence, frequency));
      }
    }
    const words = Math.ceil(this.#vocabSize / 32);
    const at = batch.maskOf[o] * words;
    if (batch.maskOf[o] >= 0) forbid(logits, batch.maskBits.subarray(at, at + words));
    const grammar = batch.grammars[o];
    if (grammar !== undefined) forbid(logits, grammar.wait());
  }
}

/**
 * Tokens whose bit is not set cannot be drawn; without a mask none can. What is never drawn needs no memory of what its
 * logit was.
 */
function forbid(logits: Float32Array, mask: Int32Array | undefined): void {
  if (mask === undefined) {
    logits.fill(-Infinity);
    return;
  }
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word];
    if (bits === -1) continue;
    const from = 32 * word;
    const to = Math.min(from + 32, logits.length);
    if (bits === 0) logits.fill(-Infinity, from, to);
    else
      for (let token = from; token < to; token++) if (((bits >>> (token - from)) & 1) === 0) logits[token] = -Infinity;
  }
}

function hasAdjustments({ biasStart, historySlot, maskOf, grammars }: Batch, o: number): boolean {
  const changed = biasStart[o + 1] > biasStart[o] || historySlot[o] >= 0;
  return changed || maskOf[o] >= 0 || grammars[o] !== undefined;
}

/** One row of logits in an arena, scanned by the `candidates` kernel. */
class ArenaRow implements LogitRow {
  readonly vocabSize: number;
  readonly tokens: Int32Array;
  readonly logits: Float32Array;
  maximum = 0;
  readonly #arena: Arena;
  readonly #base: number;
  readonly #indices: number;
  readonly #values: number;
  #input = 0;

  constructor(arena: Arena, base: number, vocabSize: number) {
    this.#arena = arena;
    this.#base = base;
    this.vocabSize = vocabSize;
    this.#indices = arena.alloc(vocabSize * 4);
    this.#values = arena.alloc(vocabSize * 4);
    this.tokens = arena.i32(this.#indices, vocabSize);
    this.logits = arena.f32(this.#values, vocabSize);
  }

  select(output: number, maximum: number): this {
    this.#input = this.#base + output * this.vocabSize * 4;
    this.maximum = maximum;
    return this;
  }

  collect(threshold: number): number {
    return this.#arena.candidates(this.#input, this.vocabSize, threshold, this.#indices, this.#values, this.vocabSize);
  }
}
