import { CallReader } from './call.ts';
import { JsonReader } from './json.ts';
import { isSpace, MarkerFinder, type TextReader } from './parts.ts';
import type { PartWriter } from './writer.ts';

const MARKER = '[TOOL_CALLS]';
const HEADER = /^\s*([\w.-]+)(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*$/;
/** A header that is longer is none. */
const LONGEST_HEADER = 256;

/**
 * Calls as Mistral's models write them: `[TOOL_CALLS]` and then a list of objects with `name` and `arguments`, or one
 * object, or (newer) `NAME[ARGS]{...}`, with the marker before each call.
 */
export class MistralReader implements TextReader {
  readonly #writer: PartWriter;
  readonly #finder = new MarkerFinder([MARKER]);
  #state: 'text' | 'head' | 'list' | 'call' | 'arguments' | 'broken' = 'text';
  #inList = false;
  #call: CallReader;
  #json = new JsonReader();
  /** Text that is content if it turns out to be no call. */
  #block = '';

  constructor(writer: PartWriter) {
    this.#writer = writer;
    this.#call = new CallReader(writer);
  }

  push(text: string): void {
    for (const character of text) this.#step(character);
  }

  end(): void {
    if (this.#state === 'text') this.#writer.content(this.#finder.end());
    else if (this.#state === 'head' || (this.#state === 'call' && !this.#call.named)) this.#writer.content(this.#block);
    this.#writer.end();
  }

  #step(character: string): void {
    switch (this.#state) {
      case 'text': {
        const { text, found } = this.#finder.push(character);
        this.#writer.content(text);
        if (found === undefined) return;
        this.#state = 'head';
        this.#block = '';
        this.#inList = false;
        return;
      }
      case 'head':
        this.#head(character);
        return;
      case 'list':
        if (character === '{') this.#begin();
        else if (character === ']') this.#state = 'text';
        else if (!isSpace(character) && character !== ',') this.#giveUp(character);
        return;
      case 'call':
        this.#inCall(character);
        return;
      case 'arguments':
        this.#writer.arguments(character);
        if (!this.#json.push(character)) this.#state = 'broken';
        else if (this.#json.done) this.#state = 'text';
        return;
      case 'broken':
        this.#writer.arguments(character);
    }
  }

  #head(character: string): void {
    const empty = this.#block.trim() === '';
    if (empty && character === '[') {
      this.#inList = true;
      this.#state = 'list';
    } else if (empty && character === '{') this.#begin();
    else if (character === '{') {
      const [, name] = HEADER.exec(this.#block) ?? [];
      if (name === undefined) return this.#giveUp(character);
      this.#writer.name(name);
      this.#json = new JsonReader();
      this.#state = 'arguments';
      this.#step(character);
    } else if (this.#block.length === LONGEST_HEADER) this.#giveUp(character);
    else this.#block += character;
  }

  #begin(): void {
    this.#call = new CallReader(this.#writer);
    this.#block = '';
    this.#state = 'call';
    this.#inCall('{');
  }

  #inCall(character: string): void {
    const result = this.#call.push(character);
    if (result === 'more') this.#block += character;
    else if (result === 'done') {
      this.#state = this.#inList ? 'list' : 'text';
      this.#block = '';
    } else if (result === 'no call') this.#giveUp(character);
    else {
      this.#state = 'broken';
      this.#writer.arguments(character);
    }
  }

  #giveUp(character: string): void {
    this.#writer.content(this.#block);
    this.#block = '';
    this.#state = 'text';
    this.#step(character);
  }
}
