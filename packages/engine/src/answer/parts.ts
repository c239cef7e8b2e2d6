/**
 * What an answer's text says, in the order it says it. The parts of an answer are the same however its text came in
 * pieces, once neighbours of one kind are joined.
 */
export type AnswerPart =
  | { readonly kind: 'reasoning'; readonly text: string }
  | { readonly kind: 'content'; readonly text: string }
  /** The n-th call of a tool begins; its arguments follow. */
  | { readonly kind: 'call'; readonly call: number; readonly name: string }
  /** The next piece of the call's arguments, JSON as the model wrote it. */
  | { readonly kind: 'arguments'; readonly call: number; readonly text: string };

/** Reads text that comes in pieces; the caller joins what it emits. */
export interface TextReader {
  push(text: string): void;
  /** No more text will come. */
  end(): void;
}

export type Emit = (part: AnswerPart) => void;

/** Finds the first of some texts, character by character; what may be the beginning of one is held back. */
export class MarkerFinder {
  readonly #markers: readonly string[];
  #held = '';

  constructor(markers: readonly string[]) {
    this.#markers = markers;
  }

  /** Characters that are known to be part of no marker, and the marker that this one completes. */
  push(character: string): { readonly text: string; readonly found: string | undefined } {
    const held = this.#held + character;
    let from = 0;
    while (from < held.length && !this.#markers.some((marker) => marker.startsWith(held.slice(from)))) from++;
    const rest = held.slice(from);
    const found = this.#markers.find((marker) => marker === rest);
    this.#held = found === undefined ? rest : '';
    return { text: held.slice(0, from), found };
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

export function isSpace(character: string): boolean {
  return character === ' ' || character === '\n' || character === '\r' || character === '\t';
}
