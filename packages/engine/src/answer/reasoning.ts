import { isSpace, MarkerFinder, type Emit, type TextReader } from './parts.ts';

/** What stands around a model's reasoning. */
export interface ReasoningTags {
  readonly open: string;
  readonly close: string;
}

/**
 * Takes the reasoning off the beginning of an answer; the rest goes to the next reader. White space around the tags
 * belongs to the notation.
 */
export class ReasoningReader implements TextReader {
  readonly #tags: ReasoningTags;
  readonly #emit: Emit;
  readonly #next: TextReader;
  #state: 'start' | 'reasoning' | 'after' | 'content' = 'start';
  /** White space that is not known to be followed by more reasoning, or an opening tag that is not complete. */
  #held = '';
  #started = false;
  readonly #finder: MarkerFinder;

  /** @param opened the prompt ends with the opening tag, so the answer begins as reasoning */
  constructor(tags: ReasoningTags, opened: boolean, emit: Emit, next: TextReader) {
    this.#tags = tags;
    this.#emit = emit;
    this.#next = next;
    this.#finder = new MarkerFinder([tags.close]);
    if (opened) this.#state = 'reasoning';
  }

  push(text: string): void {
    let content = '';
    for (const character of text) {
      if (this.#state === 'content') content += character;
      else content += this.#step(character);
    }
    if (content !== '') this.#next.push(content);
  }

  end(): void {
    if (this.#state === 'start') this.#next.push(this.#held);
    if (this.#state === 'reasoning') this.#reasoning(this.#finder.end());
    this.#next.end();
  }

  /** What of the text is content. */
  #step(character: string): string {
    switch (this.#state) {
      case 'start': {
        this.#held += character;
        const begun = this.#held.trimStart();
        if (begun === this.#tags.open) {
          this.#state = 'reasoning';
          this.#held = '';
        } else if (!this.#tags.open.startsWith(begun)) {
          this.#state = 'content';
          return this.#held;
        }
        return '';
      }
      case 'reasoning': {
        const { text, found } = this.#finder.push(character);
        this.#reasoning(text);
        if (found !== undefined) this.#state = 'after';
        return '';
      }
      case 'after':
        if (isSpace(character)) return '';
        this.#state = 'content';
        return character;
      case 'content':
        return character;
    }
  }

  #reasoning(text: string): void {
    for (const character of text) {
      if (isSpace(character)) {
        if (this.#started) this.#held += character;
        continue;
      }
      this.#started = true;
      this.#emit({ kind: 'reasoning', text: this.#held + character });
      this.#held = '';
    }
  }
}
