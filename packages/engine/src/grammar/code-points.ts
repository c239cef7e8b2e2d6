/** A set of Unicode code points without surrogates: ascending ranges, both ends included, with gaps between them. */
export type CodePoints = readonly (readonly [first: number, last: number])[];

export const ANY: CodePoints = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** The union of ranges in any order. */
export function codePoints(ranges: readonly (readonly [number, number])[]): CodePoints {
  const joined: [number, number][] = [];
  for (const [first, last] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const before = joined.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return intersection(joined, ANY);
}

export function setOf(characters: string): CodePoints {
  return codePoints([...characters].map((c) => [c.codePointAt(0)!, c.codePointAt(0)!]));
}

export function intersection(a: CodePoints, b: CodePoints): CodePoints {
  const common: [number, number][] = [];
  for (const [first, last] of a) {
    for (const [from, to] of b) {
      if (from <= last && to >= first) common.push([Math.max(first, from), Math.min(last, to)]);
    }
  }
  return common;
}

export function complement(set: CodePoints): CodePoints {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [first, last] of set) {
    if (first > next) rest.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= 0x10ffff) rest.push([next, 0x10ffff]);
  return intersection(rest, ANY);
}

export function contains(set: CodePoints, codePoint: number): boolean {
  return set.some(([first, last]) => first <= codePoint && codePoint <= last);
}

export function sizeOf(set: CodePoints): number {
  return set.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

/** Byte values, both ends included. */
export type ByteRange = readonly [first: number, last: number];

/**
 * The UTF-8 encodings of a set as sequences of byte ranges: a string of bytes encodes one of the code points exactly if
 * one of the sequences matches it (Unicode 17, table 3-7, well-formed byte sequences).
 */
export function utf8Ranges(set: CodePoints): ByteRange[][] {
  return set.flatMap(([first, last]) => rangesOf(first, last));
}

/** Last code points of one, two and three bytes. */
const ENDS = [0x7f, 0x7ff, 0xffff];

function rangesOf(first: number, last: number): ByteRange[][] {
  const end = ENDS.find((boundary) => first <= boundary && last > boundary);
  if (end !== undefined) return [...rangesOf(first, end), ...rangesOf(end + 1, last)];
  if (last <= 0x7f) return [[[first, last]]];
  // Split where the continuation bytes do not run through all their values.
  const length = last <= 0x7ff ? 2 : last <= 0xffff ? 3 : 4;
  for (let bits = 6 * (length - 1); bits > 0; bits -= 6) {
    const mask = (1 << bits) - 1;
    if ((first | mask) === (last | mask)) continue;
    if ((first & mask) !== 0) return [...rangesOf(first, first | mask), ...rangesOf((first | mask) + 1, last)];
    if ((last & mask) !== mask) return [...rangesOf(first, (last & ~mask) - 1), ...rangesOf(last & ~mask, last)];
  }
  const [low, high] = [first, last].map((point) => new TextEncoder().encode(String.fromCodePoint(point)));
  return [Array.from(low, (byte, i) => [byte, high[i]] as const)];
}
