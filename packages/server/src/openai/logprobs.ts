import { isUtf8 } from 'node:buffer';
import type { Detokenizer, GeneratedToken, Vocabulary } from '@rose/engine';

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

export interface LegacyLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: number[];
  readonly top_logprobs: Record<string, number>[];
  /** Where each token's text begins in the answer, in code points. */
  readonly text_offset: number[];
}

/** Log-probabilities of one answer in the completions endpoint's shape, in pieces as the tokens come. */
export class LegacyLogprobsWriter {
  readonly #vocabulary: Vocabulary;
  /** Of its own: the answer's text may lag behind its tokens while a stop string is possible. */
  readonly #detokenizer: Detokenizer;
  #offset = 0;

  constructor(vocabulary: Vocabulary, keepSpecial: boolean) {
    this.#vocabulary = vocabulary;
    this.#detokenizer = vocabulary.detokenizer({ keepSpecial });
  }

  write(tokens: readonly GeneratedToken[]): LegacyLogprobs {
    const piece: LegacyLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const { token, logprob, top = [] } of tokens) {
      piece.tokens.push(this.#name(token));
      piece.token_logprobs.push(finite(logprob));
      piece.top_logprobs.push(
        Object.fromEntries(top.map((candidate) => [this.#name(candidate.token), finite(candidate.logprob)])),
      );
      piece.text_offset.push(this.#offset);
      this.#offset += codePoints(this.#detokenizer.push(token));
    }
    return piece;
  }

  /** A token that is part of a character has no text: OpenAI names it by its bytes. */
  #name(token: number): string {
    const bytes = this.#vocabulary.tokenBytes(token);
    if (isUtf8(bytes)) return this.#vocabulary.tokenText(token);
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}

function codePoints(text: string): number {
  return Array.from(text).length;
}

function finite(logprob: number | undefined): number {
  return logprob === undefined || logprob < LEAST ? LEAST : logprob;
}
