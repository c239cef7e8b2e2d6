import type { SerializedError } from '../errors.ts';
import type { GrammarSource } from './structure.ts';

/** What a grammar worker is started with. */
export interface GrammarWorkerData {
  /** The model's directory, where its tokenizer is. */
  readonly directory: string;
  readonly vocabSize: number;
  readonly endTokens: readonly number[];
  /** What the worker is at, in memory that both sides share: see `At`. */
  readonly at: Int32Array;
}

/**
 * A session is one answer's way through its grammar. What the worker knows of it stands in `words`, which both sides
 * share: see `Word`, and behind them a bit for each token that may come next.
 */
export type ToGrammarWorker =
  | {
      readonly kind: 'open';
      readonly session: number;
      readonly source: GrammarSource;
      /** The answer so far: it has one if another worker began it. */
      readonly tokens: readonly number[];
      readonly words: Int32Array;
    }
  /** Tokens were drawn: token i for sessions[i]. */
  | { readonly kind: 'advance'; readonly sessions: readonly number[]; readonly tokens: readonly number[] }
  | { readonly kind: 'close'; readonly session: number };

/** A worker says `ready` once; then answers each `open` in order, when its first mask is there. */
export type FromGrammarWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'opened'; readonly session: number }
  | { readonly kind: 'refused'; readonly session: number; readonly error: SerializedError };

/** Places of what the worker is at. */
export const At = {
  /** One more when it begins something, one more when that is done: odd while it is busy. */
  ACTS: 0,
  /** The session that it works for. */
  SESSION: 1,
} as const;

/** Places of a session's words. */
export const Word = {
  /** Masks made so far: as many when the session opens as the answer has tokens, and one; one more for each token. */
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
