import { RoseError } from '../errors.ts';
import type { TokenizerFiles } from './files.ts';
import type { TokenSet } from './tokens.ts';

/** Byte strings of all tokens in one block: token t is `bytes[ends[t - 1], ends[t])`. */
export interface TokenBytes {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
}

/** tokenizer.json's decoder as tables; small enough to be sent to another thread. */
export interface DecoderTables {
  /** Bytes of a token that follows another. */
  readonly later: TokenBytes;
  /** Bytes of a text's first token, where they differ (a word's leading space falls away). */
  readonly first: TokenBytes | undefined;
  /** 1 for control tokens. */
  readonly special: Uint8Array<ArrayBuffer>;
  /** So many times this ASCII character falls away at the start of the text. */
  readonly strip: { readonly count: number; readonly byte: number };
}

/** What one token gives: its text or bytes, after another token and at the start. */
interface Rule {
  readonly later: (token: string) => string | Uint8Array;
  readonly first?: (token: string) => string | Uint8Array;
  readonly strip?: DecoderTables['strip'];
}

const utf8 = new TextEncoder();

/**
 * Compiles the decoder: ByteLevel, WordPiece, Metaspace, none at all, or a sequence of Replace, ByteFallback, Strip and
 * Fuse as sentencepiece models have. Throws `unsupported` for any other.
 */
export function compileDecoder(files: TokenizerFiles, tokens: TokenSet): DecoderTables {
  const rule = ruleOf(files);
  const { texts, controls, plain } = tokens;
  // The byte alphabet does not spell these: they stand for themselves.
  const added = new Set(
    files.tokenizer.decoder?.type === 'ByteLevel' ? [...controls, ...plain].map(({ id }) => id) : [],
  );
  const table = (decode: Rule['later']): TokenBytes => {
    let block = new Uint8Array(16 * texts.length);
    const ends = new Uint32Array(texts.length);
    let end = 0;
    for (let id = 0; id < texts.length; id++) {
      const text = texts[id] ?? '';
      const decoded = text === '' || added.has(id) ? text : decode(text);
      // A UTF-16 unit is three bytes at most.
      if (end + 3 * decoded.length > block.length) block = grown(block, end + 3 * decoded.length);
      if (typeof decoded === 'string') end += utf8.encodeInto(decoded, block.subarray(end)).written;
      else {
        block.set(decoded, end);
        end += decoded.length;
      }
      ends[id] = end;
    }
    return { bytes: block.slice(0, end), ends };
  };
  const special = new Uint8Array(texts.length);
  for (const { id } of controls) special[id] = 1;
  return {
    later: table(rule.later),
    first: rule.first && table(rule.first),
    special,
    strip: rule.strip ?? { count: 0, byte: 0 },
  };
}

function grown(block: Uint8Array, least: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(2 * least);
  larger.set(block);
  return larger;
}

type Json = Readonly<Record<string, unknown>>;

function ruleOf({ directory, tokenizer }: TokenizerFiles): Rule {
  const decoder: Json | null = tokenizer.decoder ?? null;
  const message = `${directory}/tokenizer.json: Rose does not know the decoder ${JSON.stringify(decoder).slice(0, 200)}`;
  const steps: unknown = decoder?.['type'] === 'Sequence' ? decoder['decoders'] : [decoder];
  if (!Array.isArray(steps)) throw new RoseError('unsupported', message);
  const only = steps.length === 1 ? (steps[0] as Json | null) : undefined;
  if (only === null) return { later: (token) => ` ${token}`, first: (token) => token };
  switch (only?.['type']) {
    case 'ByteLevel':
      return { later: byteLevel() };
    case 'WordPiece':
      return wordPiece(only);
    case 'Metaspace':
      return metaspace(only);
  }
  const rule = sentencePiece(steps as Json[]);
  if (rule !== undefined) return rule;
  throw new RoseError('unsupported', message);
}

/**
 * GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68 for the characters from U+0100 on
 * (`bytes_to_unicode` of its encoder.py).
 */
function byteLevel(): Rule['later'] {
  const byteOf = new Int16Array(0x200).fill(-1);
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    byteOf[printable ? byte : next++] = byte;
  }
  return (token) => {
    const bytes = new Uint8Array(token.length);
    for (let i = 0; i < token.length; i++) {
      const byte = byteOf[token.charCodeAt(i)] ?? -1;
      // A token outside the alphabet stands for its own text, as in the reference implementation.
      if (byte < 0) return token;
      bytes[i] = byte;
    }
    return bytes;
  };
}

function wordPiece(config: Json): Rule {
  const prefix = typeof config['prefix'] === 'string' ? config['prefix'] : '##';
  const clean = config['cleanup'] === false ? (token: string): string => token : cleanUp;
  const continues = (token: string): boolean => prefix !== '' && token.startsWith(prefix);
  return {
    later: (token) => clean(continues(token) ? token.slice(prefix.length) : ` ${token}`),
    first: clean,
  };
}

/** Takes the space before punctuation and English contractions away again. */
function cleanUp(token: string): string {
  return token
    .replaceAll(/ (?=[.?!,])/g, '')
    .replaceAll(" ' ", "'")
    .replaceAll(/ (?=n't|'m|'s|'ve|'re)/g, '');
}

function metaspace(config: Json): Rule {
  const replacement = typeof config['replacement'] === 'string' ? config['replacement'] : '▁';
  const later = (token: string): string => token.replaceAll(replacement, ' ');
  if (config['prepend_scheme'] === 'never' || config['add_prefix_space'] === false) return { later };
  return { later, first: (token) => later(token).replace(/^ /, '') };
}

/** Replace, ByteFallback, Fuse, Strip at the start of the whole: in this order, each perhaps left out. */
function sentencePiece(steps: readonly Json[]): Rule | undefined {
  const maps: ((token: string) => string)[] = [];
  let bytes = false;
  let fused = false;
  let strip: DecoderTables['strip'] | undefined;
  for (const step of steps) {
    const type = step['type'];
    const pattern = (step['pattern'] as { readonly String?: unknown } | undefined)?.String;
    const content = step['content'];
    if (strip !== undefined) return undefined;
    if (type === 'Replace' && !bytes && !fused && typeof pattern === 'string' && typeof content === 'string') {
      maps.push((token) => token.replaceAll(pattern, content));
    } else if (type === 'ByteFallback' && !bytes && !fused) {
      bytes = true;
    } else if (type === 'Fuse') {
      fused = true;
    } else if (type === 'Strip' && fused && step['stop'] === 0 && typeof content === 'string') {
      if (!/^[\0-\x7f]$/.test(content) || typeof step['start'] !== 'number') return undefined;
      strip = { count: step['start'], byte: content.charCodeAt(0) };
    } else {
      return undefined;
    }
  }
  const text = (token: string): string => maps.reduce((mapped, map) => map(mapped), token);
  const fallback = (token: string): string | Uint8Array => {
    const mapped = text(token);
    return /^<0x[0-9A-Fa-f]{2}>$/.test(mapped) ? Uint8Array.of(Number.parseInt(mapped.slice(3, 5), 16)) : mapped;
  };
  return { later: bytes ? fallback : text, ...(strip && { strip }) };
}
