import type { DecoderTables } from './decoder.ts';
import { bytesOf, TableDetokenizer } from './detokenizer.ts';
import type { Detokenizer, Vocabulary } from './text.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** A tokenizer's tokens as bytes and text. Ids the tokenizer does not know give no text. */
export class TableVocabulary implements Vocabulary {
  readonly size: number;
  readonly #tables: DecoderTables;
  readonly #texts: (string | undefined)[];

  constructor(tables: DecoderTables) {
    this.#tables = tables;
    this.size = tables.special.length;
    this.#texts = Array.from({ length: this.size });
  }

  detokenizer(options: { readonly keepSpecial?: boolean } = {}): Detokenizer {
    return new TableDetokenizer(this.#tables, options.keepSpecial ?? false, this.#texts);
  }

  tokenBytes(token: number): Uint8Array {
    return token >= 0 && token < this.size ? bytesOf(this.#tables.later, token).slice() : new Uint8Array();
  }

  tokenText(token: number): string {
    return decoder.decode(this.tokenBytes(token));
  }
}

/** The whole text of a sequence. */
export function decodeAll(detokenizer: Detokenizer, tokens: Int32Array): string {
  let text = '';
  for (const token of tokens) text += detokenizer.push(token);
  return text + detokenizer.flush();
}
