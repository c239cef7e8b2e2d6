import { constants, isAscii, isUtf8 } from 'node:buffer';

/**
 * JSON as Triton reads it, which is more than `JSON.parse` gives: 64-bit integers stay exact, `NaN`, `Infinity` and
 * `-Infinity` are numbers, and an object keeps the order of its members and its duplicate keys.
 */
export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;

export class JsonObject {
  readonly #first: Member | undefined;

  /** @param first undefined: it is empty */
  constructor(first?: Member) {
    this.#first = first;
  }

  /** In their order. */
  get members(): (readonly [key: string, value: JsonValue])[] {
    const members: [string, JsonValue][] = [];
    for (let member = this.#first; member !== undefined; member = member.next) members.push([member.key, member.value]);
    return members;
  }

  /** The first member with this key. */
  get(key: string): JsonValue | undefined {
    for (let member = this.#first; member !== undefined; member = member.next) {
      if (member.key === key) return member.value;
    }
    return undefined;
  }
}

/** Most objects have two or three members: a list takes a fraction of the memory of an array that grows. */
interface Member {
  readonly key: string;
  readonly value: JsonValue;
  next: Member | undefined;
}

export class JsonSyntaxError extends Error {
  constructor(problem: string, offset: number) {
    super(`${problem} at ${offset}`);
  }
}

/** Deeper nesting is refused, so that a hostile body cannot exhaust the call stack. */
const DEEPEST = 256;
/** Digits of the largest unsigned 64-bit integer: longer literals are doubles, and BigInt never sees them. */
const MOST_INTEGER_DIGITS = 20;
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

const QUOTE = 0x22;
const MINUS = 0x2d;
const BACKSLASH = 0x5c;
const SPACE = 0x20;

/** @throws JsonSyntaxError with the byte offset of the problem */
export function parseJson(bytes: Uint8Array): JsonValue {
  return new JsonReader(bytes).document();
}

/** Reads a document as a string with a character for each byte: V8 is quicker with those than with arrays of bytes. */
class JsonReader {
  readonly #bytes: Buffer;
  readonly #ascii: boolean;
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length > constants.MAX_STRING_LENGTH) throw new JsonSyntaxError('The document is too long.', 0);
    this.#ascii = isAscii(bytes);
    this.#text = this.#bytes.toString('latin1');
  }

  document(): JsonValue {
    if (!this.#ascii && !isUtf8(this.#bytes)) throw new JsonSyntaxError('The document is not UTF-8.', 0);
    this.#skipSpace();
    if (this.#at === this.#text.length) this.#fail('The document is empty.');
    const value = this.#value();
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail('The document root must not be followed by other values.');
    return value;
  }

  #value(): JsonValue {
    const code = this.#text.charCodeAt(this.#at);
    if (code === QUOTE) return this.#string();
    if (code === 0x5b || code === 0x7b) {
      if (++this.#depth > DEEPEST) this.#fail('Nesting is too deep.');
      this.#at++;
      this.#skipSpace();
      const value = code === 0x5b ? this.#array() : this.#object();
      this.#depth--;
      return value;
    }
    if (code === MINUS || isDigit(code)) return this.#number();
    for (const [word, value] of WORDS) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#fail('Invalid value.');
  }

  #array(): JsonValue[] {
    const elements: JsonValue[] = [];
    if (this.#take(0x5d)) return elements;
    for (;;) {
      elements.push(this.#value());
      this.#skipSpace();
      if (this.#take(0x5d)) return elements;
      if (!this.#take(0x2c)) this.#fail('Missing a comma or ] after an array element.');
      this.#skipSpace();
    }
  }

  #object(): JsonObject {
    if (this.#take(0x7d)) return new JsonObject();
    const first = this.#member();
    for (let last = first; ; last = last.next) {
      this.#skipSpace();
      if (this.#take(0x7d)) return new JsonObject(first);
      if (!this.#take(0x2c)) this.#fail('Missing a comma or } after an object member.');
      this.#skipSpace();
      last.next = this.#member();
    }
  }

  #member(): Member {
    if (this.#text.charCodeAt(this.#at) !== QUOTE) this.#fail('Missing a name for object member.');
    const key = this.#string();
    this.#skipSpace();
    if (!this.#take(0x3a)) this.#fail('Missing a colon after a name of object member.');
    this.#skipSpace();
    return { key, value: this.#value(), next: undefined };
  }

  #string(): string {
    let start = ++this.#at;
    let text = '';
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code > BACKSLASH || (code >= SPACE && code !== QUOTE && code !== BACKSLASH)) {
        this.#at++;
        continue;
      }
      if (code < SPACE) this.#fail('Control characters in strings must be escaped.');
      if (code !== QUOTE && code !== BACKSLASH) this.#fail('Missing a closing quotation mark in string.');
      const piece = this.#piece(start, this.#at);
      this.#at++;
      if (code === QUOTE) return text === '' ? piece : text + piece;
      text += piece + this.#escape();
      start = this.#at;
    }
  }

  /** The characters that the bytes of a part of a string stand for. */
  #piece(start: number, end: number): string {
    return this.#ascii ? this.#text.slice(start, end) : this.#bytes.toString('utf8', start, end);
  }

  /** The character after a backslash. */
  #escape(): string {
    const code = this.#text.charCodeAt(this.#at++);
    if (code !== 0x75) return ESCAPES.get(code) ?? this.#fail('Invalid escape character in string.');
    const unit = this.#hexUnit();
    if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit);
    const paired = unit < 0xdc00 && this.#take(BACKSLASH) && this.#take(0x75);
    const low = paired ? this.#hexUnit() : 0;
    if (low < 0xdc00 || low > 0xdfff) this.#fail('The surrogate pair in string is invalid.');
    return String.fromCharCode(unit, low);
  }

  #hexUnit(): number {
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (!/^[\da-f]{4}$/i.test(digits)) this.#fail('Incorrect hex digit after \\u escape in string.');
    this.#at += 4;
    return Number.parseInt(digits, 16);
  }

  #number(): number | bigint {
    const start = this.#at;
    if (this.#take(MINUS) && this.#text.charCodeAt(this.#at) === 0x49) {
      if (!this.#text.startsWith('Infinity', this.#at)) this.#fail('Invalid value.');
      this.#at += 8;
      return -Infinity;
    }
    let integer = true;
    if (!this.#take(0x30)) this.#digits('Invalid value.');
    if (this.#take(0x2e)) {
      integer = false;
      this.#digits('Miss fraction part in number.');
    }
    if (this.#take(0x65) || this.#take(0x45)) {
      integer = false;
      if (!this.#take(MINUS)) this.#take(0x2b);
      this.#digits('Miss exponent in number.');
    }
    const text = this.#text.slice(start, this.#at);
    const value = Number(text);
    if (!Number.isFinite(value)) this.#fail('Number too big to be stored in double.');
    if (!integer || Number.isSafeInteger(value) || text.length > MOST_INTEGER_DIGITS) return value;
    const exact = BigInt(text);
    return exact >= INT64_MIN && exact <= UINT64_MAX ? exact : value;
  }

  #digits(missing: string): void {
    if (!isDigit(this.#text.charCodeAt(this.#at))) this.#fail(missing);
    while (isDigit(this.#text.charCodeAt(this.#at))) this.#at++;
  }

  #take(code: number): boolean {
    if (this.#text.charCodeAt(this.#at) !== code) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== SPACE && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }

  #fail(problem: string): never {
    throw new JsonSyntaxError(problem, this.#at);
  }
}

const WORDS: readonly (readonly [string, JsonValue])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
  ['NaN', Number.NaN],
  ['Infinity', Infinity],
];

const ESCAPES: ReadonlyMap<number, string> = new Map(
  Object.entries({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }).map(
    ([letter, character]) => [letter.charCodeAt(0), character],
  ),
);

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
