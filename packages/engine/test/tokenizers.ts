import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import type { AddedTokenJson, TokenizerFiles, TokenizerPart } from '../src/text/files.ts';

/** Small tokenizers of the kinds that models have, made by hand. */

/** A bundled model's directory. */
export const bundled = (name: string): string => fileURLToPath(new URL(`../../../models/${name}`, import.meta.url));

interface Fixture {
  readonly added?: readonly Partial<AddedTokenJson>[];
  readonly template?: string;
  readonly config?: Record<string, unknown>;
  /** Fields of tokenizer.json to put in place of the fixture's. */
  readonly tokenizer?: Record<string, TokenizerPart | null>;
}

function filesOf(parts: Record<string, TokenizerPart | null>, fixture: Fixture, firstId: number): TokenizerFiles {
  const added = (fixture.added ?? []).map((token, i): AddedTokenJson => {
    const special = token.special ?? true;
    return { id: firstId + i, content: '', lstrip: false, rstrip: false, special, normalized: !special, ...token };
  });
  const {
    normalizer = null,
    pre_tokenizer = null,
    post_processor = null,
    decoder = null,
    model,
  } = {
    ...parts,
    ...fixture.tokenizer,
  };
  return {
    directory: '/model',
    tokenizer: { added_tokens: added, normalizer, pre_tokenizer, post_processor, decoder, model: model ?? {} },
    config: { clean_up_tokenization_spaces: false, ...fixture.config },
    template: fixture.template,
  };
}

/** The library's own tokenizer of the same files: the reference. */
export function libraryOf({ tokenizer, config }: TokenizerFiles): Tokenizer {
  return new Tokenizer(tokenizer, config);
}

/** GPT-2's byte alphabet. */
export function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte < 0xad) || byte > 0xad;
    return String.fromCharCode(printable ? byte : next++);
  });
}

/** Byte-level BPE, as Llama 3 and Qwen have; merges join across white space and punctuation. */
export function byteLevelBpe(fixture: Fixture = {}): TokenizerFiles {
  const merges = [
    'h e',
    'l l',
    'he ll',
    'hell o',
    'Ċ Ċ',
    'Ġ t',
    '< |',
    '| >',
    'i m',
    'e n',
    'en d',
    'Ċ h',
    '> Ċ',
    '< /',
  ];
  const tokens = [...byteAlphabet(), ...merges.map((merge) => merge.replace(' ', ''))];
  const parts = {
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: {
            Regex:
              '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
          },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
      ignore_merges: true,
    },
  };
  return filesOf(parts, fixture, tokens.length);
}

const PUNCTUATION = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~';
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const CHARACTERS = [...LETTERS, ...PUNCTUATION, '▁', 'é', '\n'];

/** BPE as sentencepiece makes it (Llama 2, Mistral): control tokens lie in the vocabulary, and merges spell `</s>`. */
export function sentencePieceBpe(fixture: Fixture = {}): TokenizerFiles {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const merges = ['< /', 's >', '</ s>', '< s>', '▁ h', 'e l', '▁ ▁', '▁▁ ▁▁', 'i n', '[ /'];
  const joined = merges.map((merge) => merge.replace(' ', '')).filter((token) => token !== '</s>' && token !== '<s>');
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...CHARACTERS, ...joined];
  const parts = {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: '<s>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: '<s>', type_id: 1 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
      byte_fallback: true,
      fuse_unk: true,
      unk_token: '<unk>',
    },
  };
  const added = ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, normalized: false }));
  return filesOf(parts, { ...fixture, added: [...added, ...(fixture.added ?? [])] }, tokens.length - 3);
}

/** Unigram with Metaspace (XLM-RoBERTa, T5): control tokens are pieces with the best score of all. */
export function unigram(fixture: Fixture = {}): TokenizerFiles {
  const controls = ['<s>', '<pad>', '</s>', '<unk>'];
  const words = ['▁the', '▁hello', '▁wor', 'ld', 'ing', '▁</', 's>'];
  const vocab = [
    ...controls.map((token) => [token, 0]),
    ...CHARACTERS.map((token, i) => [token, -8 - i / 100]),
    ...words.map((token, i) => [token, -4 - i / 10]),
  ];
  const parts = {
    normalizer: { type: 'NFKC' },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true },
    post_processor: {
      type: 'RobertaProcessing',
      cls: ['<s>', 0],
      sep: ['</s>', 2],
      add_prefix_space: true,
      trim_offsets: true,
    },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    model: { type: 'Unigram', vocab, unk_id: 3, byte_fallback: false },
  };
  const added = controls.map((content, id) => ({ id, content }));
  return filesOf(parts, { ...fixture, added: [...added, ...(fixture.added ?? [])] }, vocab.length - controls.length);
}

/** WordPiece split at white space alone, so that `[SEP]` is one word. */
export function wordPiece(fixture: Fixture = {}): TokenizerFiles {
  const controls = ['[PAD]', '[UNK]', '[CLS]', '[SEP]'];
  const tokens = [...controls, ...LETTERS, ...PUNCTUATION].flatMap((token) => [token, `##${token}`]);
  const parts = {
    normalizer: { type: 'Lowercase' },
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', 6], cls: ['[CLS]', 4] },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
  };
  const added = controls.map((content, i) => ({ id: 2 * i, content }));
  return filesOf(parts, { ...fixture, added: [...added, ...(fixture.added ?? [])] }, tokens.length - controls.length);
}

/** A small generator with a seed, so that a failure can be seen again. */
export function random(seed: number): { below(n: number): number; pick<T>(items: readonly T[]): T } {
  let state = seed >>> 0;
  const next = (): number => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (n: number): number => next() % n;
  return { below, pick: (items) => items[below(items.length)] };
}
