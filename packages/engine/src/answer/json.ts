import { isSpace } from './parts.ts';

/** What the next character may be. */
type State =
  | 'value'
  | 'first item or end'
  | 'first key or end'
  | 'key'
  | 'colon'
  | 'comma or end'
  | 'string'
  | 'number'
  | 'literal'
  | 'done';

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const LITERALS = ['true', 'false', 'null'];

/**
 * Reads one JSON value character by character (RFC 8259, but control characters in strings pass, because models write
 * them).
 */
export class JsonReader {
  /** Objects and arrays that are open. */
  readonly #open: ('{' | '[')[] = [];
  #state: State = 'value';
  /** The string, number or literal that is being read, without a string's first quote. */
  #token = '';
  #escaped = false;
  #isKey = false;
  /** The outermost object's key whose value is being read. */
  #key: string | undefined;

  get depth(): number {
    return this.#open.length;
  }

  /** Whether the value is complete. A number at the outermost level never is: more digits could come. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /** The key of the outermost object whose value comes next or is being read. */
  get key(): string | undefined {
    return this.#key;
  }

  /** Whether a value of the outermost object begins with the next character that is no white space. */
  get beforeValue(): boolean {
    return this.#state === 'value' && this.#open.length === 1 && this.#open[0] === '{';
  }

  /** False where no JSON value goes on with this character; the reader is of no use then. */
  push(character: string): boolean {
    if (this.#state === 'string') return this.#string(character);
    if (this.#state === 'literal') return this.#literal(character);
    if (this.#state === 'number') {
      if (/[-+.eE\d]/.test(character)) {
        this.#token += character;
        return true;
      }
      if (!NUMBER.test(this.#token)) return false;
      this.#endValue();
    }
    return isSpace(character) || this.#mark(character);
  }

  #mark(character: string): boolean {
    switch (this.#state) {
      case 'first item or end':
        return character === ']' ? this.#close('[') : this.#begin(character);
      case 'value':
        return this.#begin(character);
      case 'first key or end':
        return character === '}' ? this.#close('{') : this.#beginKey(character);
      case 'key':
        return this.#beginKey(character);
      case 'colon':
        this.#state = 'value';
        return character === ':';
      case 'comma or end': {
        const object = this.#open.at(-1) === '{';
        if (character === ',') {
          this.#state = object ? 'key' : 'value';
          return true;
        }
        if (character === '}') return object && this.#close('{');
        return character === ']' && !object && this.#close('[');
      }
      default:
        return false;
    }
  }

  #begin(character: string): boolean {
    this.#token = '';
    if (character === '{' || character === '[') {
      this.#open.push(character);
      this.#state = character === '{' ? 'first key or end' : 'first item or end';
      return true;
    }
    this.#isKey = false;
    if (character === '"') {
      this.#state = 'string';
      return true;
    }
    this.#token = character;
    this.#state = /[-\d]/.test(character) ? 'number' : 'literal';
    return this.#state === 'number' || 'tfn'.includes(character);
  }

  #beginKey(character: string): boolean {
    this.#token = '';
    this.#isKey = true;
    this.#state = 'string';
    return character === '"';
  }

  #string(character: string): boolean {
    if (character !== '"' || this.#escaped) {
      this.#escaped = character === '\\' && !this.#escaped;
      // Only the outermost object's keys are asked for.
      if (this.#isKey && this.depth === 1) this.#token += character;
      return true;
    }
    if (!this.#isKey) {
      this.#endValue();
      return true;
    }
    this.#state = 'colon';
    if (this.depth > 1) return true;
    this.#key = parseString(this.#token);
    return this.#key !== undefined;
  }

  #literal(character: string): boolean {
    this.#token += character;
    if (LITERALS.includes(this.#token)) this.#endValue();
    else return LITERALS.some((literal) => literal.startsWith(this.#token));
    return true;
  }

  #close(kind: '{' | '['): boolean {
    if (this.#open.pop() !== kind) return false;
    this.#endValue();
    return true;
  }

  #endValue(): void {
    if (this.#open.length <= 1) this.#key = undefined;
    this.#state = this.#open.length === 0 ? 'done' : 'comma or end';
  }
}

/** The text of a JSON string given without its quotes; undefined where its escapes are wrong. */
export function parseString(inner: string): string | undefined {
  try {
    const escaped = inner.replaceAll(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
    return JSON.parse(`"${escaped}"`) as string;
  } catch {
    return undefined;
  }
}
