import type { SerializedError } from '../errors.ts';
import type { GrammarSource } from './structure.ts';

/** What a grammar worker is started with. */
export interface GrammarWorkerData {
  /** The model's directory, where its tokenizer is. */
  readonly directory: string;
  readonly vocabSize: number;
  readonly endTokens: readonly number[];
}

/**
 * A session is one answer's way through its grammar. What the worker knows of it stands in `words`, which both sides
 * share: see `Word`, and behind them a bit for each token that may come next.
 */
export type ToGrammarWorker =
  | { readonly kind: 'open'; readonly session: number; readonly source: GrammarSource; readonly words: Int32Array }
  /** Tokens were drawn: token i for sessions[i]. */
  | { readonly kind: 'advance'; readonly sessions: readonly number[]; readonly tokens: readonly number[] }
  | { readonly kind: 'close'; readonly session: number };

/** A worker says `ready` once; then answers each `open` in order, when its first mask is there. */
export type FromGrammarWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'opened'; readonly session: number }
  | { readonly kind: 'refused'; readonly session: number; readonly error: SerializedError };

/** Places of a session's words. */
export const Word = {
  /** Masks made so far: one when the session opens, one more for each token. */
  MASKS: 0,
  /** Microseconds that the last mask took. */
  MICROSECONDS: 1,
  /** 1: the last token was not one that the grammar allows. */
  BROKEN: 2,
  /** Where the mask begins. */
  MASK: 3,
} as const;

export function sessionWords(vocabSize: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * (Word.MASK + Math.ceil(vocabSize / 32))));
}
