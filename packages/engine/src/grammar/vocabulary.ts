import { TOOL_CONTROLS, TOOL_FORMATS, REASONING_CONTROLS } from '../answer/dialect.ts';
import type { TokenizerFiles } from '../text/files.ts';
import { compileDecoder } from '../text/decoder.ts';
import { bytesOf } from '../text/detokenizer.ts';
import { readTokens } from '../text/tokens.ts';

/** Control tokens that are part of the notation of some dialect: a grammar may have their text. */
const NOTATION = new Set([...TOOL_FORMATS.flatMap((format) => TOOL_CONTROLS[format]), ...REASONING_CONTROLS]);

const NONE = new Uint8Array();

/** After these first bytes not every byte from 0x80 to 0xbf may come (Unicode 17, table 3-7). */
const SECOND_BYTES: ReadonlyMap<number, readonly [least: number, most: number]> = new Map([
  [0xe0, [0xa0, 0xbf]],
  [0xed, [0x80, 0x9f]],
  [0xf0, [0x90, 0xbf]],
  [0xf4, [0x80, 0x8f]],
]);

/**
 * Tokens as a grammar sees them: bytes of UTF-8. web-xgrammar takes any continuation byte after any first byte; that no
 * ill-formed text comes of it is seen to here.
 */
export class GrammarVocabulary {
  /** Bytes of each token; none for tokens that no text may have. */
  readonly tokens: readonly Uint8Array[];
  /** Ids of control tokens that have a text here, by name. */
  readonly controls: ReadonlyMap<string, number>;
  /** For a first byte at the end of the text: tokens that cannot follow it. */
  readonly #excluded = new Map<number, Int32Array>();

  constructor(files: TokenizerFiles, vocabSize: number) {
    const set = readTokens(files);
    const { later, special } = compileDecoder(files, set);
    this.controls = new Map(set.controls.filter(({ content }) => NOTATION.has(content)).map((t) => [t.content, t.id]));
    const shown = new Set(this.controls.values());
    this.tokens = Array.from({ length: vocabSize }, (_, id) => {
      if (id >= special.length || (special[id] === 1 && !shown.has(id))) return NONE;
      const bytes = bytesOf(later, id);
      return isPartOfText(bytes) ? bytes : NONE;
    });
    for (const [first, [least, most]] of SECOND_BYTES) {
      const excluded = [...this.tokens.keys()].filter((id) => {
        const byte = this.tokens[id][0] ?? 0;
        return byte >= 0x80 && byte < 0xc0 && (byte < least || byte > most);
      });
      this.#excluded.set(first, Int32Array.from(excluded));
    }
  }

  /** Tokens that cannot follow this one, because it ends within a character that they would make ill-formed. */
  excludedAfter(token: number): Int32Array | undefined {
    const last = this.tokens[token].at(-1);
    return last === undefined ? undefined : this.#excluded.get(last);
  }
}

/** Whether well-formed UTF-8 may have these bytes somewhere, perhaps beginning and ending within a character. */
function isPartOfText(bytes: Uint8Array): boolean {
  // Most tokens: a decoder for each of them would take seconds.
  if (bytes.every((byte) => byte < 0x80)) return true;
  let begin = 0;
  while (begin < 3 && begin < bytes.length && bytes[begin] >= 0x80 && bytes[begin] < 0xc0) begin++;
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(begin), { stream: true });
    return true;
  } catch {
    return false;
  }
}
