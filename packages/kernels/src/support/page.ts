import { distinct, input, values, type TensorArgument } from '../spec.ts';

/** Tokens of a page of the cache. */
export const PAGE = 16;

/**
 * A case's pages: an i32 table with those of all sequences, in any order and with a gap behind each sequence's, and where each
 * begins. `pages` are as many as the cache has.
 */
export function pagesOf(lengths: readonly number[]): {
  readonly pages: number;
  readonly table: TensorArgument;
  readonly tableStarts: TensorArgument;
} {
  const starts = [1];
  for (const length of lengths) starts.push(starts.at(-1)! + Math.ceil(length / PAGE) + 1);
  const entries = starts.pop()!;
  return {
    pages: entries + 1,
    table: input('i32', [entries], distinct(entries + 1)),
    tableStarts: input('i32', [lengths.length], values(starts)),
  };
}
