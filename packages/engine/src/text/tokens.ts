import { RoseError } from '../errors.ts';
import { configuredSpecials, type AddedTokenJson, type TokenizerFiles, type TokenizerJson } from './files.ts';

/** A token that is found in text before the model sees it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether white space before (after) the token belongs to it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Looked for after normalisation rather than before. */
  readonly normalized: boolean;
}

/** Every token of a tokenizer, by kind. */
export interface TokenSet {
  /** Token texts by id, in the model's own alphabet; holes where an id has no token. */
  readonly texts: readonly (string | undefined)[];
  /** The same without added tokens: the vocabulary of the model itself. */
  readonly modelTexts: readonly (string | undefined)[];
  /**
   * Control tokens: those tokenizer.json marks `special`, and those tokenizer_config.json names. Only a template or a
   * request that asks for it (`parseSpecial`) can write them.
   */
  readonly controls: readonly AddedToken[];
  /** Other added tokens (`<think>`, `<tool_call>`, runs of spaces): ordinary text, which anyone may write. */
  readonly plain: readonly AddedToken[];
  readonly unknown: number | undefined;
}

export function readTokens({ directory, tokenizer, config }: TokenizerFiles): TokenSet {
  const modelTexts = vocabularyOf(directory, tokenizer);
  const texts = [...modelTexts];
  const unknown = unknownOf(tokenizer, texts);
  const specials = configuredSpecials(config);
  const controls: AddedToken[] = [];
  const plain: AddedToken[] = [];
  const added = new Set<string>();
  for (const token of tokenizer.added_tokens) {
    texts[token.id] = token.content;
    added.add(token.content);
    // Text that is white space alone cannot be told from a client's, so it is never control.
    const control = (token.special || specials.has(token.content)) && token.content.trim() !== '';
    (control ? controls : plain).push(addedToken(token));
  }
  // A named token that is only in the model's vocabulary: transformers adds it when it loads the tokenizer.
  for (const content of specials) {
    const id = added.has(content) ? -1 : texts.indexOf(content);
    if (id >= 0) controls.push({ id, content, lstrip: false, rstrip: false, normalized: false });
  }
  return { texts, modelTexts, controls, plain, unknown };
}

function addedToken({ id, content, lstrip, rstrip, special, normalized }: AddedTokenJson): AddedToken {
  return { id, content, lstrip, rstrip, normalized: normalized ?? !special };
}

/** Tokens of the model itself by id, from an object of ids or a list of `[text, score]` (Unigram). */
function vocabularyOf(directory: string, { model }: TokenizerJson): (string | undefined)[] {
  const { vocab } = model;
  const bad = (text: unknown, why: string): RoseError =>
    new RoseError('invalid', `${directory}/tokenizer.json: "model.vocab" entry ${JSON.stringify(text)} ${why}`);
  if (Array.isArray(vocab)) {
    return vocab.map((entry: unknown) => {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string') throw bad(entry, 'is not a pair of text and score');
      return entry[0];
    });
  }
  if (typeof vocab !== 'object' || vocab === null) throw bad(vocab, 'is neither an object nor a list');
  const texts: (string | undefined)[] = [];
  const ids = vocab as Record<string, unknown>;
  for (const text of Object.keys(ids)) {
    const id = ids[text];
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_IDS) throw bad(text, 'has no proper id');
    texts[id] = text;
  }
  return texts;
}

/** Ids are table indices: a hostile one must not cost gigabytes. Today's largest vocabularies have 262,144. */
const MAX_IDS = 1 << 22;

function unknownOf({ model }: TokenizerJson, texts: readonly (string | undefined)[]): number | undefined {
  if (typeof model['unk_id'] === 'number') return model['unk_id'];
  if (typeof model['unk_token'] !== 'string') return undefined;
  const id = texts.indexOf(model['unk_token']);
  return id < 0 ? undefined : id;
}
