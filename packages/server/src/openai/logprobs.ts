import { isUtf8 } from 'node:buffer';
import type { Detokenizer, GeneratedToken, JudgedToken, Vocabulary } from '@rose/engine';
import { invalidField } from './errors.ts';

/** What OpenAI writes instead of minus infinity, which JSON does not have. */
const LEAST = -9999;

export interface ChatLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

/** Log-probabilities of drawn tokens in the chat endpoint's shape. */
export function chatLogprobs(
  tokens: readonly GeneratedToken[],
  vocabulary: Vocabulary,
): (ChatLogprob & { readonly top_logprobs: readonly ChatLogprob[] })[] {
  const describe = (token: number, logprob: number | undefined): ChatLogprob => ({
    token: vocabulary.tokenText(token),
    logprob: finite(logprob),
    bytes: [...vocabulary.tokenBytes(token)],
  });
  return tokens.map(({ token, logprob, top = [] }) => ({
    ...describe(token, logprob),
    top_logprobs: top.map((candidate) => describe(candidate.token, candidate.logprob)),
  }));
}

interface PromptLogprob {
  readonly logprob: number;
  readonly rank: number;
  readonly decoded_token: string;
}

/**
 * What the model makes of a prompt, in vLLM's shape: for each token its own entry and those of the likeliest ones, by
 * id; null for the first, which has nothing before it.
 */
export function promptLogprobs(
  judged: readonly JudgedToken[],
  vocabulary: Vocabulary,
  most: number = Infinity,
): (Record<string, PromptLogprob> | null)[] {
  const entry = (token: number, logprob: number, rank: number): [string, PromptLogprob] => [
    String(token),
    { logprob: finite(logprob), rank, decoded_token: vocabulary.tokenText(token) },
  ];
  const entries = judged.map(({ token, logprob, rank, top }) => {
    const likeliest = top.slice(0, most).map((other, i) => entry(other.token, other.logprob, i + 1));
    return Object.fromEntries([...likeliest, entry(token, logprob, rank)]);
  });
  return [null, ...entries];
}

/** @throws OpenAIError for prompt_logprobs in a stream, which has no place for them */
export function checkPromptLogprobs(body: {
  prompt_logprobs?: number | null | undefined;
  stream?: boolean | null | undefined;
}): void {
  if (typeof body.prompt_logprobs !== 'number' || body.stream !== true) return;
  throw invalidField('prompt_logprobs', 'prompt_logprobs cannot be streamed: set stream to false');
}

export interface LegacyLogprobs {
  readonly tokens: string[];
  /** null: the first token of a prompt has nothing before it. */
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  /** Where each token's text begins in the choice's, in code points. */
  readonly text_offset: number[];
}

/**
 * Log-probabilities of one choice in the completions endpoint's shape, in pieces as the tokens come. Each token stands
 * among the likeliest ones in its place, also where it is none of them.
 */
export class LegacyLogprobsWriter {
  readonly #vocabulary: Vocabulary;
  /** Of its own: the answer's text may lag behind its tokens while a stop string is possible. */
  readonly #detokenizer: Detokenizer;
  readonly #most: number;
  #offset = 0;

  /** @param most likeliest tokens that are reported in each one's place */
  constructor(vocabulary: Vocabulary, keepSpecial: boolean, most: number) {
    this.#vocabulary = vocabulary;
    this.#most = most;
    this.#detokenizer = vocabulary.detokenizer({ keepSpecial });
  }

  /** The prompt, where it is part of the choice. */
  writePrompt(prompt: Int32Array, judged: readonly JudgedToken[]): LegacyLogprobs {
    const first = noLogprobs();
    this.#writeToken(first, prompt[0], null, null);
    return append(first, this.write(judged));
  }

  write(tokens: readonly GeneratedToken[]): LegacyLogprobs {
    const piece = noLogprobs();
    for (const { token, logprob, top = [] } of tokens) {
      const likeliest = top.slice(0, this.#most);
      const entries = [...likeliest, { token, logprob }].map((one) => [this.#name(one.token), finite(one.logprob)]);
      this.#writeToken(piece, token, finite(logprob), Object.fromEntries(entries) as Record<string, number>);
    }
    return piece;
  }

  #writeToken(
    piece: LegacyLogprobs,
    token: number,
    logprob: number | null,
    likeliest: Record<string, number> | null,
  ): void {
    piece.tokens.push(this.#name(token));
    piece.token_logprobs.push(logprob);
    piece.top_logprobs.push(likeliest);
    piece.text_offset.push(this.#offset);
    this.#offset += codePoints(this.#detokenizer.push(token));
  }

  /** A token that is part of a character has no text: OpenAI names it by its bytes. */
  #name(token: number): string {
    const bytes = this.#vocabulary.tokenBytes(token);
    if (isUtf8(bytes)) return this.#vocabulary.tokenText(token);
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}

export function noLogprobs(): LegacyLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

/** Put a piece behind another. */
export function append(to: LegacyLogprobs, piece: LegacyLogprobs): LegacyLogprobs {
  // A prompt may be longer than a call's list of arguments.
  for (let i = 0; i < piece.tokens.length; i++) {
    to.tokens.push(piece.tokens[i]);
    to.token_logprobs.push(piece.token_logprobs[i]);
    to.top_logprobs.push(piece.top_logprobs[i]);
    to.text_offset.push(piece.text_offset[i]);
  }
  return to;
}

function codePoints(text: string): number {
  return Array.from(text).length;
}

function finite(logprob: number | undefined): number {
  return logprob === undefined || logprob < LEAST ? LEAST : logprob;
}
