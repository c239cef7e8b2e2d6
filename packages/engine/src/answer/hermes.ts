import { CallReader } from './call.ts';
import { isSpace, MarkerFinder, type TextReader } from './parts.ts';
import type { PartWriter } from './writer.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

/**
 * Calls as Hermes 2 Pro, Qwen 2.5 and Qwen 3 write them: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`,
 * any number, text between them. A block that holds no call is content.
 */
export class HermesReader implements TextReader {
  readonly #writer: PartWriter;
  #finder = new MarkerFinder([OPEN, CLOSE]);
  #state: 'text' | 'before call' | 'call' | 'broken' = 'text';
  #call: CallReader;
  /** The block so far: content, if it turns out to be no call. */
  #block = '';
  /** A call is complete, its closing tag has not come. */
  #unclosed = false;

  constructor(writer: PartWriter) {
    this.#writer = writer;
    this.#call = new CallReader(writer);
  }

  push(text: string): void {
    for (const character of text) this.#step(character);
  }

  end(): void {
    const rest = this.#finder.end();
    if (this.#state === 'broken') this.#writer.arguments(rest);
    else if (this.#state === 'text') this.#writer.content(rest);
    else if (!this.#call.named) this.#writer.content(this.#block);
    this.#writer.end();
  }

  #step(character: string): void {
    switch (this.#state) {
      case 'text': {
        const { text, found } = this.#finder.push(character);
        this.#writer.content(text);
        if (found === OPEN) this.#open();
        if (found === CLOSE) this.#close();
        return;
      }
      case 'before call':
        if (isSpace(character)) this.#block += character;
        else if (character === '{') {
          this.#call = new CallReader(this.#writer);
          this.#state = 'call';
          this.#step(character);
        } else this.#giveUp(character);
        return;
      case 'call': {
        const result = this.#call.push(character);
        if (result === 'no call') this.#giveUp(character);
        else if (result === 'broken') {
          this.#state = 'broken';
          this.#finder = new MarkerFinder([CLOSE]);
          this.#step(character);
        } else this.#block += character;
        if (result === 'done') {
          this.#unclosed = true;
          this.#state = 'text';
        }
        return;
      }
      case 'broken': {
        const { text, found } = this.#finder.push(character);
        this.#writer.arguments(text);
        if (found === undefined) return;
        this.#finder = new MarkerFinder([OPEN, CLOSE]);
        this.#state = 'text';
      }
    }
  }

  #open(): void {
    this.#state = 'before call';
    this.#block = OPEN;
    this.#unclosed = false;
    this.#call = new CallReader(this.#writer);
  }

  #close(): void {
    if (this.#unclosed) this.#writer.drop();
    else this.#writer.content(CLOSE);
    this.#unclosed = false;
  }

  #giveUp(character: string): void {
    this.#writer.content(this.#block);
    this.#state = 'text';
    this.#step(character);
  }
}
