import type { PromptLogprobs } from '../engine/request.ts';
import type { JudgedToken } from './api.ts';

/** What the model makes of a prompt, gathered from the engine's pieces. */
export class PromptJudgement {
  /** The prompt's tokens from the second one on. */
  readonly tokens: JudgedToken[] = [];
  readonly #prompt: Int32Array;
  readonly #top: number;

  /** @param top most likely tokens in each one's place */
  constructor(prompt: Int32Array, top: number) {
    this.#prompt = prompt;
    this.#top = top;
  }

  /** @param from place in the prompt of the piece's first token; pieces come in order */
  add(from: number, { logprobs, ranks, topTokens, topLogprobs }: PromptLogprobs): void {
    for (let i = 0; i < logprobs.length; i++) {
      const top: { token: number; logprob: number }[] = [];
      for (let at = i * this.#top; at < (i + 1) * this.#top && topTokens[at] >= 0; at++) {
        top.push({ token: topTokens[at], logprob: topLogprobs[at] });
      }
      this.tokens.push({ token: this.#prompt[from + i], logprob: logprobs[i], rank: ranks[i], top });
    }
  }
}
