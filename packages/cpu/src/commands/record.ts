import { bitsOf, floatOf } from './thread.ts';

/** How one field of a command is written as a 32-bit integer. */
interface Codec {
  encode(value: never): number;
  decode(word: number): unknown;
}

/** Addresses go up to 4 GiB: they are unsigned. */
export const int: Codec = { encode: (value: number) => value | 0, decode: (word) => word >>> 0 };
export const signed: Codec = { encode: (value: number) => value, decode: (word) => word };
export const float: Codec = { encode: (value: number) => bitsOf(value), decode: (word) => floatOf(word) };
export const flag: Codec = { encode: (value: boolean) => (value ? 1 : 0), decode: (word) => word === 1 };
export function choice(values: readonly string[]): Codec {
  const encode = (value: string): number => {
    const number = values.indexOf(value);
    if (number < 0) throw new RangeError(`'${value}' is none of ${values.join(', ')}`);
    return number;
  };
  return { encode, decode: (word) => values[word] };
}

/** A kind of command: its fields, and a codec for each in the order in which they stand in the list. */
export class RecordType<T extends object> {
  readonly words: number;
  readonly #names: readonly (keyof T)[];
  readonly #codecs: readonly Codec[];
  /** Filled anew at each decoding: commands are executed one at a time. */
  readonly #decoded: T;

  constructor(codecs: { readonly [K in keyof T]-?: Codec }) {
    this.#names = Object.keys(codecs) as (keyof T)[];
    this.#codecs = Object.values(codecs);
    this.words = this.#names.length;
    this.#decoded = Object.fromEntries(this.#names.map((name) => [name, 0])) as T;
  }

  encode(list: Int32Array, at: number, fields: T): void {
    for (let i = 0; i < this.words; i++) list[at + i] = this.#codecs[i].encode(fields[this.#names[i]] as never);
  }

  decode(list: Int32Array, at: number): T {
    for (let i = 0; i < this.words; i++) this.#decoded[this.#names[i]] = this.#codecs[i].decode(list[at + i]) as never;
    return this.#decoded;
  }
}
