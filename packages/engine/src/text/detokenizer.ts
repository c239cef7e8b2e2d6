import type { DecoderTables, TokenBytes } from './decoder.ts';
import type { Detokenizer } from './text.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
/** A character's bytes are at most four, so at most three can be waiting. */
const MOST_WAITING = 3;

/**
 * A detokenizer over a decoder's tables.
 * @param hidden 1 for tokens that give no text
 * @param continues the text goes on with another: its beginning is no beginning
 * @param texts text of each token that is whole UTF-8, filled as they come up; shared by a vocabulary's detokenizers
 */
export class TableDetokenizer implements Detokenizer {
  readonly #tables: DecoderTables;
  /** 1 for tokens without a text; undefined: all have one. */
  readonly #hidden: Uint8Array | undefined;
  readonly #texts: (string | undefined)[];
  /** The first bytes of a character whose other bytes have not come. */
  readonly #waiting = new Uint8Array(MOST_WAITING);
  #waitingLength = 0;
  #started = false;
  #stripLeft: number;

  constructor(
    tables: DecoderTables,
    hidden: Uint8Array | undefined,
    texts: (string | undefined)[],
    continues: boolean = false,
  ) {
    this.#tables = tables;
    this.#hidden = hidden;
    this.#texts = texts;
    this.#started = continues;
    this.#stripLeft = continues ? 0 : tables.strip.count;
  }

  push(token: number): string {
    const { later, first, special } = this.#tables;
    if (!(token >= 0 && token < special.length)) return '';
    if (this.#hidden?.[token] === 1) return '';
    if (!this.#started || this.#stripLeft > 0) {
      const bytes = this.#strip(bytesOf(this.#started ? later : (first ?? later), token));
      this.#started = true;
      return this.#decode(bytes);
    }
    if (this.#waitingLength === 0) {
      const known = this.#texts[token];
      if (known !== undefined) return known;
    }
    const bytes = bytesOf(later, token);
    const fresh = this.#waitingLength === 0;
    const text = this.#decode(bytes);
    if (fresh && this.#waitingLength === 0) this.#texts[token] = text;
    return text;
  }

  flush(): string {
    const text = decoder.decode(this.#waiting.subarray(0, this.#waitingLength));
    this.#waitingLength = 0;
    return text;
  }

  #strip(bytes: Uint8Array): Uint8Array {
    let from = 0;
    while (this.#stripLeft > 0 && bytes[from] === this.#tables.strip.byte) {
      from++;
      this.#stripLeft--;
    }
    if (from < bytes.length) this.#stripLeft = 0;
    return bytes.subarray(from);
  }

  /** The text of what waits and these bytes, but for an unfinished character at the end, which waits. */
  #decode(bytes: Uint8Array): string {
    let all = bytes;
    if (this.#waitingLength > 0) {
      all = new Uint8Array(this.#waitingLength + bytes.length);
      all.set(this.#waiting.subarray(0, this.#waitingLength));
      all.set(bytes, this.#waitingLength);
    }
    const whole = all.length - unfinished(all);
    this.#waitingLength = all.length - whole;
    this.#waiting.set(all.subarray(whole));
    return decoder.decode(all.subarray(0, whole));
  }
}

/** A token's bytes: a view. */
export function bytesOf({ bytes, ends }: TokenBytes, token: number): Uint8Array {
  return bytes.subarray(token === 0 ? 0 : ends[token - 1], ends[token]);
}

/**
 * How many bytes at the end are the beginning of a character that more bytes can still finish: the WHATWG decoder,
 * which replaces ill-formed bytes, would wait for more there too (Unicode 17, table 3-7, well-formed byte sequences).
 */
function unfinished(bytes: Uint8Array): number {
  for (let length = 1; length <= Math.min(MOST_WAITING, bytes.length); length++) {
    const lead = bytes[bytes.length - length];
    if (lead >= 0x80 && lead < 0xc0) continue;
    const needed = lead >= 0xf5 ? 0 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (length >= needed) return 0;
    if (length === 1) return 1;
    const second = bytes[bytes.length - length + 1];
    const least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    return second >= least && second <= most ? length : 0;
  }
  return 0;
}
