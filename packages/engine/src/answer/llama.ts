import { CallReader } from './call.ts';
import { isSpace, MarkerFinder, type TextReader } from './parts.ts';
import type { PartWriter } from './writer.ts';

const TAG = '<|python_tag|>';

/**
 * Calls as Llama 3.1 to 3.3 write them: an answer that begins with `{"name": ..., "parameters": {...}}`, more of them
 * separated by `;` or white space; the same after `<|python_tag|>`, or `NAME.call(key="value")` there. JSON without the
 * tag is a call only where its name is a tool's.
 */
export class LlamaReader implements TextReader {
  readonly #tools: ReadonlySet<string>;
  readonly #writer: PartWriter;
  readonly #finder = new MarkerFinder([TAG]);
  #state: 'text' | 'call' | 'code' | 'broken' = 'text';
  /** A call may begin: nothing but white space and separators came since the start, a call or a tag. */
  #fresh = true;
  #call: CallReader;
  /** Text that is content if it turns out to be no call. */
  #block = '';

  /** @param writer knows the tools' names too */
  constructor(writer: PartWriter, tools: ReadonlySet<string>) {
    this.#writer = writer;
    this.#tools = tools;
    this.#call = new CallReader(writer);
  }

  push(text: string): void {
    for (const character of text) this.#step(character);
  }

  end(): void {
    if (this.#state === 'text') this.#plain(this.#finder.end());
    else if (this.#state === 'call' && !this.#call.named) this.#writer.content(this.#block);
    else if (this.#state === 'code' && !this.#code()) this.#writer.content(this.#block);
    this.#writer.end();
  }

  #step(character: string): void {
    switch (this.#state) {
      case 'text': {
        const { text, found } = this.#finder.push(character);
        this.#plain(text);
        if (found === undefined) return;
        this.#state = 'code';
        this.#block = '';
        return;
      }
      case 'code':
        if (character === '{' && this.#block.trim() === '') this.#begin();
        else this.#block += character;
        return;
      case 'call':
        this.#inCall(character);
        return;
      case 'broken':
        this.#writer.arguments(character);
    }
  }

  #plain(text: string): void {
    for (const character of text) {
      if (this.#fresh && character === '{') this.#begin();
      else if (isSpace(character)) this.#writer.content(character);
      else if (this.#fresh && this.#writer.calls > 0 && (character === ';' || character === ',')) {
        this.#writer.hold(character);
      } else {
        this.#fresh = false;
        this.#writer.content(character);
      }
    }
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
      this.#state = 'text';
      this.#fresh = true;
    } else if (result === 'broken') {
      this.#state = 'broken';
      this.#writer.arguments(character);
    } else {
      this.#writer.content(this.#block);
      this.#state = 'text';
      this.#fresh = false;
      this.#step(character);
    }
  }

  /** `NAME.call(key="value", ...)` as a call. False where it is something else. */
  #code(): boolean {
    const [, name, inner] = /^\s*([A-Za-z_]\w*)\.call\((.*)\)\s*$/s.exec(this.#block) ?? [];
    if (name === undefined || !this.#tools.has(name)) return false;
    const values = keywords(inner);
    if (values === undefined) return false;
    this.#writer.name(name);
    this.#writer.arguments(JSON.stringify(values));
    return true;
  }
}

const KEYWORD =
  /\s*([A-Za-z_]\w*)\s*=\s*("(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|True|False|None|true|false|null)\s*(?:,|$)/sy;
const PYTHON: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };

/** Keyword arguments whose values are plain; undefined for any other text. */
function keywords(text: string): Record<string, unknown> | undefined {
  const entries: [string, unknown][] = [];
  KEYWORD.lastIndex = 0;
  for (let at = 0; at < text.trimEnd().length; at = KEYWORD.lastIndex) {
    const match = KEYWORD.exec(text);
    if (match === null) return undefined;
    const [, key, value] = match;
    try {
      entries.push([key, value in PYTHON ? PYTHON[value] : JSON.parse(value)]);
    } catch {
      return undefined;
    }
  }
  return Object.fromEntries(entries);
}
