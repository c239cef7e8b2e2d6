/**
 * Looks for stop strings in streamed text. Text that may be the beginning of one is held back until it is known not to
 * be, so that no part of a stop string reaches the client.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  readonly #include: boolean;
  #held = '';

  /** @param include whether a stop string that is found belongs to the text */
  constructor(stops: readonly string[], include: boolean) {
    this.#stops = stops.filter((stop) => stop.length > 0);
    this.#include = include;
  }

  /** Text that can go out now, and the stop string that ends it, if there is one: the earliest, of those the longest. */
  push(piece: string): { readonly text: string; readonly stop: string | undefined } {
    if (this.#stops.length === 0) return { text: piece, stop: undefined };
    const text = this.#held + piece;
    let at = -1;
    let found: string | undefined;
    for (const stop of this.#stops) {
      const index = text.indexOf(stop);
      if (index < 0) continue;
      if (found === undefined || index < at || (index === at && stop.length > found.length)) {
        at = index;
        found = stop;
      }
    }
    if (found !== undefined) {
      this.#held = '';
      return { text: text.slice(0, at + (this.#include ? found.length : 0)), stop: found };
    }
    const keep = this.#possibleBeginning(text);
    this.#held = text.slice(text.length - keep);
    return { text: text.slice(0, text.length - keep), stop: undefined };
  }

  /** What was held back, when the answer ends otherwise. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Length of the longest end of the text with which a stop string begins. */
  #possibleBeginning(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
