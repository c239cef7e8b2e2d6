/** How attention over a paged cache is divided for few query tokens: splits of a fixed length at absolute positions. */

/**
 * Tokens of a split. A constant of the head's length alone: what a row's parts are must not depend on the batch.
 */
export function splitTokens(_head: number): number {
  return 512;
}

export interface DecodeItems {
  /** (sequence, split), one pair after the other, a sequence's splits in ascending order. */
  readonly items: Int32Array;
  /** For each sequence the number of its first item; the last entry is the number of items. */
  readonly starts: Int32Array;
}

/**
 * The parts of a batch that `attention_decode` computes and `attention_combine` puts together.
 *
 * @param lengths tokens of each sequence, those that ask included
 * @param counts of those, how many ask
 * @param head elements of a head
 * @param window keys that a query sees; absent: all before it and its own
 */
export function decodeItems(
  lengths: ArrayLike<number>,
  counts: ArrayLike<number>,
  head: number,
  window?: number,
): DecodeItems {
  const split = splitTokens(head);
  const items: number[] = [];
  const starts = [0];
  for (let sequence = 0; sequence < lengths.length; sequence++) {
    const length = lengths[sequence];
    const first = window === undefined ? 0 : Math.max(0, length - counts[sequence] - window + 1);
    for (let part = Math.floor(first / split); part * split < length; part++) items.push(sequence, part);
    starts.push(items.length / 2);
  }
  return { items: Int32Array.from(items), starts: Int32Array.from(starts) };
}
