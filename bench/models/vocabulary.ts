/** Ids of the two control tokens; then come the 256 bytes, then merges of two bytes. */
export const BEGIN = 0;
export const END = 1;
const CONTROL = ['<|begin|>', '<|end|>'];

/** A byte-level BPE vocabulary that is valid and trained on nothing: each merge joins two bytes. */
export interface ByteVocabulary {
  /** Token texts in GPT-2's byte alphabet, in the order of their ids. */
  readonly tokens: readonly string[];
  /** Pairs of token texts, the first merged first. */
  readonly merges: readonly (readonly [string, string])[];
}

export function byteVocabulary(size: number): ByteVocabulary {
  const bytes = byteAlphabet();
  const tokens = [...CONTROL, ...bytes];
  const merges: [string, string][] = [];
  for (let i = 0; tokens.length < size; i++) {
    const pair: [string, string] = [bytes[i % 256], bytes[Math.floor(i / 256)]];
    merges.push(pair);
    tokens.push(pair.join(''));
  }
  return { tokens, merges };
}

/** GPT-2's letter for each byte: itself where it prints, else the next unused letter from U+0100 on. */
function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const prints = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(prints ? byte : next++);
  });
}

/** The content of tokenizer.json. */
export function tokenizerJson({ tokens, merges }: ByteVocabulary): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: CONTROL.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

/** The content of tokenizer_config.json. */
export function tokenizerConfig(): object {
  return { tokenizer_class: 'PreTrainedTokenizerFast', bos_token: CONTROL[BEGIN], eos_token: CONTROL[END] };
}
