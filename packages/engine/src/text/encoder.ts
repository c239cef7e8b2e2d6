import { Tokenizer } from '@huggingface/tokenizers';
import { RoseError } from '../errors.ts';
import { Dictionary } from './dictionary.ts';
import type { TokenizerFiles, TokenizerJson } from './files.ts';
import type { AddedToken, TokenSet } from './tokens.ts';

/** A stretch of text, or a control token between two of them. */
export type Section = string | AddedToken;

/**
 * Text to ids. Normaliser, pre-tokenizer and model are the library's; added tokens are found here, because the library
 * has no switch that turns control tokens off, and a model may know their text too (Unigram and sentencepiece BPE
 * vocabularies hold `</s>`). The library's model is built without them: no text can become a control token.
 */
export class Encoder {
  readonly #tokenizer: Tokenizer;
  readonly #normalize: ((text: string) => string) | null;
  readonly #plain: ReadonlyMap<string, AddedToken>;
  readonly #plainRaw: Dictionary;
  readonly #plainNormalized: Dictionary;
  readonly #all: Dictionary;
  readonly #controls: ReadonlyMap<string, AddedToken>;

  constructor(files: TokenizerFiles, tokens: TokenSet) {
    this.#tokenizer = openLibrary(files, tokens);
    const normalize = normalizerOf(this.#tokenizer, files.tokenizer);
    this.#normalize = normalize;
    const late = (token: AddedToken): boolean => token.normalized && normalize !== null;
    const plain = new Map<string, AddedToken>();
    const raw: string[] = [];
    const normalized: string[] = [];
    for (const token of tokens.plain) {
      const text = late(token) && normalize !== null ? normalize(token.content) : token.content;
      plain.set(token.content, token).set(text, token);
      (late(token) ? normalized : raw).push(text);
    }
    this.#plain = plain;
    this.#plainRaw = new Dictionary(raw);
    this.#plainNormalized = new Dictionary(normalized);
    this.#controls = new Map(tokens.controls.map((token) => [token.content, token]));
    this.#all = new Dictionary([...raw, ...this.#controls.keys()]);
  }

  /** Ids of text in which nothing is a control token. No special tokens are added. */
  encode(text: string): number[] {
    return this.encodeSections([text]);
  }

  /** `text` split at the control tokens it spells. */
  sections(text: string): Section[] {
    const sections: Section[] = [];
    let run = '';
    for (const piece of this.#all.split(text)) {
      const control = this.#controls.get(piece);
      if (control === undefined) {
        run += piece;
        continue;
      }
      if (run !== '') sections.push(run);
      sections.push(control);
      run = '';
    }
    if (run !== '') sections.push(run);
    return sections;
  }

  /** Ids of sections in a row: the ids of the whole text, with exactly these control tokens. */
  encodeSections(sections: readonly Section[]): number[] {
    const pieces = sections.flatMap((section): Section[] =>
      typeof section === 'string' ? this.#splitPlain(this.#plainRaw, section) : [section],
    );
    strip(pieces);
    const ids: number[] = [];
    try {
      pieces.forEach((piece, index) => {
        if (typeof piece === 'string') this.#encodePiece(piece, index, ids);
        else ids.push(piece.id);
      });
    } catch (cause) {
      // The library spreads a word's tokens into one call.
      if (!(cause instanceof RangeError)) throw cause;
      throw new RoseError('too_large', 'the text is too long to be tokenized in one piece', { cause });
    }
    return ids;
  }

  /** @param index number of the piece in the text: Metaspace may mark the start of the first one only */
  #encodePiece(piece: string, index: number, ids: number[]): void {
    const { pre_tokenizer: preTokenizer, model } = this.#tokenizer;
    if (piece === '' || model === null) return;
    const sections = this.#splitPlain(this.#plainNormalized, this.#normalize?.(piece) ?? piece);
    strip(sections);
    for (const section of sections) {
      if (typeof section !== 'string') {
        ids.push(section.id);
        continue;
      }
      if (section === '') continue;
      const words = preTokenizer === null ? [section] : preTokenizer(section, { section_index: index });
      for (const token of model(words)) {
        const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
        if (id !== undefined) ids.push(id);
      }
    }
  }

  /** A piece that is a token's text is the token, wherever it was cut: the library does the same. */
  #splitPlain(dictionary: Dictionary, text: string): Section[] {
    return dictionary.split(text).map((piece): Section => this.#plain.get(piece) ?? piece);
  }
}

/** Give the white space beside a token to the token, where it asks for it. */
function strip(sections: Section[]): void {
  const trim = (at: number, side: 'trimEnd' | 'trimStart'): void => {
    if (at < 0 || at >= sections.length) return;
    const section = sections[at];
    // A token of spaces is white space as well.
    const text = typeof section === 'string' ? section : section.content;
    const trimmed = text[side]();
    if (trimmed !== text) sections[at] = trimmed;
  };
  sections.forEach((token, i) => {
    if (typeof token === 'string') return;
    if (token.lstrip) trim(i - 1, 'trimEnd');
    if (token.rstrip) trim(i + 1, 'trimStart');
  });
}

/** Ideographs beyond the 65,536th character: BERT reads each as a word, the library's normaliser knows the others only. */
const RARE_IDEOGRAPHS = /[\u{20000}-\u{2A6DF}\u{2A700}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}]/gu;

function normalizerOf({ normalizer }: Tokenizer, json: TokenizerJson): ((text: string) => string) | null {
  if (normalizer === null) return null;
  const { type, handle_chinese_chars: spaces } = json.normalizer ?? {};
  if (type !== 'BertNormalizer' || spaces === false) return (text) => normalizer(text);
  return (text) => normalizer(text.replaceAll(RARE_IDEOGRAPHS, ' $& '));
}

function openLibrary(files: TokenizerFiles, tokens: TokenSet): Tokenizer {
  const { tokenizer, directory } = files;
  const json = {
    normalizer: null,
    pre_tokenizer: null,
    ...tokenizer,
    added_tokens: [],
    // Not used: special tokens are placed over ids, and text is made by the detokenizer.
    post_processor: null,
    decoder: null,
    model: withoutControls(tokenizer, tokens),
  };
  try {
    return new Tokenizer(json, { unk_token: tokenizer.model['unk_token'] });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RoseError('unsupported', `${directory}/tokenizer.json: ${why}`, { cause });
  }
}

/** The model's part of tokenizer.json without the control tokens, so that no text can spell one. */
function withoutControls({ model }: TokenizerJson, tokens: TokenSet): object {
  const ids = new Set(tokens.controls.map((token) => token.id));
  // What the model does not know becomes this id.
  if (tokens.unknown !== undefined) ids.delete(tokens.unknown);
  if (Array.isArray(model['vocab'])) {
    // A place in the list is an id, so entries stay; the empty text is never found.
    return {
      ...model,
      vocab: model['vocab'].map((entry: [string, number], id) => (ids.has(id) ? ['', entry[1]] : entry)),
    };
  }
  const removed = new Set([...ids].map((id) => tokens.modelTexts[id]).filter((text) => text !== undefined));
  // Most vocabularies hold none: then nothing of their size is copied.
  if (removed.size === 0) return model;
  const vocab = { ...(model['vocab'] as Record<string, number>) };
  for (const text of removed) delete vocab[text];
  const merges = model['merges'];
  if (!Array.isArray(merges)) return { ...model, vocab };
  const joined = (merge: string | [string, string]): string =>
    typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
  return { ...model, vocab, merges: merges.filter((merge) => !removed.has(joined(merge))) };
}
