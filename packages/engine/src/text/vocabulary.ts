import type { DecoderTables } from './decoder.ts';
import { bytesOf, TableDetokenizer } from './detokenizer.ts';
import type { Detokenizer, KeepSpecial, Vocabulary } from './text.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** A tokenizer's tokens as bytes and text. Ids the tokenizer does not know give no text. */
export class TableVocabulary implements Vocabulary {
  readonly size: number;
  readonly #tables: DecoderTables;
  readonly #texts: (string | undefined)[];
  /** Ids of control tokens by name, made when they are asked for. */
  #controls: Map<string, number> | undefined;

  constructor(tables: DecoderTables) {
    this.#tables = tables;
    this.size = tables.special.length;
    this.#texts = Array.from({ length: this.size });
  }

  detokenizer(options: { readonly keepSpecial?: KeepSpecial; readonly continues?: boolean } = {}): Detokenizer {
    const { keepSpecial = false, continues = false } = options;
    return new TableDetokenizer(this.#tables, this.#hidden(keepSpecial), this.#texts, continues);
  }

  #hidden(keep: KeepSpecial): Uint8Array | undefined {
    if (keep === true) return undefined;
    const { special } = this.#tables;
    if (keep === false) return special;
    this.#controls ??= new Map(
      [...special.keys()].filter((id) => special[id] === 1).map((id) => [this.tokenText(id), id]),
    );
    const ids = keep.map((name) => this.#controls?.get(name)).filter((id) => id !== undefined);
    if (ids.length === 0) return special;
    const hidden = special.slice();
    for (const id of ids) hidden[id] = 0;
    return hidden;
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
