import { isUtf8 } from 'node:buffer';

/**
 * JSON as Triton reads it, which is more than `JSON.parse` gives: 64-bit integers stay exact, `NaN`, `Infinity` and
 * `-Infinity` are numbers, and an object keeps the order of its members and its duplicate keys.
 */
export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;

export class JsonObject {
  readonly members: readonly (readonly [key: string, value: JsonValue])[];

  constructor(members: readonly (readonly [key: string, value: JsonValue])[]) {
    this.members = members;
  }

  /** The first member with this key. */
  get(key: string): JsonValue | undefined {
    return this.members.find(([name]) => name === key)?.[1];
  }
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

class JsonReader {
  readonly #bytes: Buffer;
  #at = 0;
  #depth = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  document(): JsonValue {
    if (!isUtf8(this.#bytes)) throw new JsonSyntaxError('The document is not UTF-8.', 0);
    this.#skipSpace();
    if (this.#at === this.#bytes.length) this.#fail('The document is empty.');
    const value = this.#value();
    this.#skipSpace();
    if (this.#at < this.#bytes.length) this.#fail('The document root must not be followed by other values.');
    return value;
  }

  #value(): JsonValue {
    const byte = this.#bytes[this.#at];
    if (byte === QUOTE) return this.#string();
    if (byte === 0x5b) return this.#nested(() => this.#array());
    if (byte === 0x7b) return this.#nested(() => this.#object());
    if (byte === MINUS || isDigit(byte)) return this.#number();
    for (const [word, value] of WORDS) {
      if (this.#bytes.toString('latin1', this.#at, this.#at + word.length) === word) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#fail('Invalid value.');
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > DEEPEST) this.#fail('Nesting is too deep.');
    this.#at++;
    this.#skipSpace();
    const value = read();
    this.#depth--;
    return value;
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
    const members: [string, JsonValue][] = [];
    if (this.#take(0x7d)) return new JsonObject(members);
    for (;;) {
      if (this.#bytes[this.#at] !== QUOTE) this.#fail('Missing a name for object member.');
      const key = this.#string();
      this.#skipSpace();
      if (!this.#take(0x3a)) this.#fail('Missing a colon after a name of object member.');
      this.#skipSpace();
      members.push([key, this.#value()]);
      this.#skipSpace();
      if (this.#take(0x7d)) return new JsonObject(members);
      if (!this.#take(0x2c)) this.#fail('Missing a comma or } after an object member.');
      this.#skipSpace();
    }
  }

  #string(): string {
    let text = '';
    let start = ++this.#at;
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) this.#fail('Missing a closing quotation mark in string.');
      if (byte < SPACE) this.#fail('Control characters in strings must be escaped.');
      if (byte !== QUOTE && byte !== BACKSLASH) {
        this.#at++;
        continue;
      }
      text += this.#bytes.toString('utf8', start, this.#at);
      this.#at++;
      if (byte === QUOTE) return text;
      text += this.#escape();
      start = this.#at;
    }
  }

  /** The character after a backslash. */
  #escape(): string {
    const byte = this.#bytes[this.#at++];
    if (byte !== 0x75) return ESCAPES.get(byte) ?? this.#fail('Invalid escape character in string.');
    const unit = this.#hexUnit();
    if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit);
    const paired = unit < 0xdc00 && this.#take(BACKSLASH) && this.#take(0x75);
    const low = paired ? this.#hexUnit() : 0;
    if (low < 0xdc00 || low > 0xdfff) this.#fail('The surrogate pair in string is invalid.');
    return String.fromCharCode(unit, low);
  }

  #hexUnit(): number {
    const digits = this.#bytes.toString('latin1', this.#at, this.#at + 4);
    if (!/^[\da-f]{4}$/i.test(digits)) this.#fail('Incorrect hex digit after \\u escape in string.');
    this.#at += 4;
    return Number.parseInt(digits, 16);
  }

  #number(): number | bigint {
    const start = this.#at;
    if (this.#take(MINUS) && this.#bytes[this.#at] === 0x49) {
      if (this.#bytes.toString('latin1', this.#at, this.#at + 8) !== 'Infinity') this.#fail('Invalid value.');
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
    const text = this.#bytes.toString('latin1', start, this.#at);
    const value = Number(text);
    if (!Number.isFinite(value)) this.#fail('Number too big to be stored in double.');
    if (!integer || Number.isSafeInteger(value) || text.length > MOST_INTEGER_DIGITS) return value;
    const exact = BigInt(text);
    return exact >= INT64_MIN && exact <= UINT64_MAX ? exact : value;
  }

  #digits(missing: string): void {
    if (!isDigit(this.#bytes[this.#at])) this.#fail(missing);
    while (isDigit(this.#bytes[this.#at])) this.#at++;
  }

  #take(byte: number): boolean {
    if (this.#bytes[this.#at] !== byte) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte !== SPACE && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
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

const ESCAPES: ReadonlyMap<number | undefined, string> = new Map(
  Object.entries({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }).map(
    ([letter, character]) => [letter.charCodeAt(0), character],
  ),
);

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}
