import { random, type Random } from './random.ts';

/** Numbers at the edges of what messages can say. */
const NUMBERS = [
  '0',
  '-0',
  '-1',
  '1.5',
  '1e400',
  '-1e-400',
  '127',
  '256',
  '65536',
  '2147483647',
  '2147483648',
  '4294967296',
  '9007199254740993',
  '9223372036854775807',
  '9223372036854775808',
  '18446744073709551616',
  '123456789012345678901234567890',
  'NaN',
  '-Infinity',
];
/** What may stand where another value stood, and reads as JSON. */
const JSON_VALUES = [
  ...NUMBERS.filter((number) => !/^(1e400|NaN|-Infinity)$/.test(number)),
  'null',
  'true',
  'false',
  '""',
  '"x"',
  String.raw`"\u0000"`,
  String.raw`"\ud83d\ude00"`,
  '[]',
  '{}',
  '[[[[]]]]',
  '{"":{}}',
  '"__proto__"',
  '"constructor"',
  '[1,"a",null,true,1.5]',
];
const JSON_PIECES = [
  ...JSON_VALUES,
  '1e400',
  'NaN',
  '-Infinity',
  String.raw`"\ud800"`,
  '['.repeat(150),
  '{"a":'.repeat(150),
  ',',
  ':',
  ']',
  '}',
  '"',
  '\\',
  '\u00e4',
  ' \n\t',
];
const BYTES = [0, 1, 2, 7, 8, 0x0a, 0x12, 0x1a, 0x22, 0x7f, 0x80, 0xc0, 0xf0, 0xfe, 0xff];
/** A string, a word or number, or one character of JSON. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[\w.+-]+|\S/g;

/** Makes broken messages of good ones, always the same ones for a seed. */
export class Mutator {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = random(seed);
  }

  pick<T>(from: readonly T[]): T {
    return this.#random.pick(from);
  }

  below(count: number): number {
    return this.#random.integer(count);
  }

  /** One to four changes, of bytes. @param others messages to take parts from */
  bytes(source: Uint8Array, others: readonly Uint8Array[] = []): Buffer<ArrayBuffer> {
    let bytes = Buffer.from(source);
    for (let edits = 1 + this.below(4); edits > 0; edits--) bytes = this.#editBytes(bytes, others);
    return bytes;
  }

  /** One to three changes, of tokens where it still looks like JSON. */
  json(source: string): string {
    let text = source;
    for (let edits = this.pick([1, 1, 1, 2, 3]); edits > 0; edits--) text = this.#editJson(text);
    return text;
  }

  #editBytes(bytes: Buffer<ArrayBuffer>, others: readonly Uint8Array[]): Buffer<ArrayBuffer> {
    if (bytes.length === 0) return Buffer.from([this.pick(BYTES)]);
    const at = this.below(bytes.length);
    const length = 1 + this.below(Math.min(16, bytes.length - at));
    const before = bytes.subarray(0, at);
    const after = bytes.subarray(at + length);
    switch (this.below(8)) {
      case 0:
        bytes[at] ^= 1 << this.below(8);
        return bytes;
      case 1:
        bytes[at] = this.pick(BYTES);
        return bytes;
      case 2:
        return Buffer.concat([before, after]);
      case 3:
        return Buffer.concat([before, bytes.subarray(at, at + length), bytes.subarray(at)]);
      case 4:
        return Buffer.from(before);
      case 5:
        return Buffer.concat([before, Buffer.alloc(length, this.pick(BYTES)), after]);
      case 6:
        return Buffer.concat([before, Buffer.alloc(1 + this.below(8), this.pick(BYTES)), bytes.subarray(at)]);
      default: {
        const other = others.length === 0 ? bytes : this.pick(others);
        const from = this.below(other.length + 1);
        return Buffer.concat([before, other.subarray(from, from + 1 + this.below(64)), after]);
      }
    }
  }

  #editJson(text: string): string {
    const tokens = [...text.matchAll(TOKEN)];
    if (tokens.length === 0) return this.pick(JSON_PIECES);
    // A change of what stands between values mostly breaks the whole.
    const values = tokens.filter(([text]) => /^[\w"-]/.test(text));
    const token = this.pick(values.length > 0 && this.below(4) > 0 ? values : tokens);
    const { index } = token;
    const end = index + token[0].length;
    const put = (piece: string): string => text.slice(0, index) + piece + text.slice(end);
    switch (this.below(12)) {
      case 0:
        return put(this.pick(JSON_PIECES));
      case 1:
        return put('');
      case 2:
        return put(`${token[0]}${this.pick([',', ':', ''])}${token[0]}`);
      case 3:
        return put(this.pick(tokens)[0]);
      case 4:
        return text.slice(0, end);
      default:
        // What stood for a value, or named a member, is another value or name.
        if (/^-?\d/.test(token[0])) return put(this.pick(NUMBERS));
        return put(/^[\w"]/.test(token[0]) ? this.pick(JSON_VALUES) : this.pick(JSON_PIECES));
    }
  }
}
