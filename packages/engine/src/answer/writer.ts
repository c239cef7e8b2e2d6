import type { CallListener } from './call.ts';
import { isSpace, type Emit } from './parts.ts';

/** Emits content and calls. White space beside calls belongs to their notation, elsewhere to the content. */
export class PartWriter implements CallListener {
  readonly #emit: Emit;
  readonly #isTool: (name: string) => boolean;
  #space = '';
  #calls = 0;

  /** @param isTool which names are calls at all */
  constructor(emit: Emit, isTool: (name: string) => boolean = () => true) {
    this.#emit = emit;
    this.#isTool = isTool;
  }

  get calls(): number {
    return this.#calls;
  }

  content(text: string): void {
    let end = text.length;
    while (end > 0 && isSpace(text[end - 1])) end--;
    if (end > 0) {
      this.#emit({ kind: 'content', text: this.#space + text.slice(0, end) });
      this.#space = '';
    }
    this.#space += text.slice(end);
  }

  /** Text that is content only if more content follows it. */
  hold(text: string): void {
    this.#space += text;
  }

  /** What was held is part of the notation. */
  drop(): void {
    this.#space = '';
  }

  name(name: string): boolean {
    if (!this.#isTool(name)) return false;
    this.drop();
    this.#emit({ kind: 'call', call: this.#calls++, name });
    return true;
  }

  arguments(text: string): void {
    if (text !== '') this.#emit({ kind: 'arguments', call: this.#calls - 1, text });
  }

  end(): void {
    if (this.#calls === 0 && this.#space !== '') this.#emit({ kind: 'content', text: this.#space });
    this.#space = '';
  }
}
