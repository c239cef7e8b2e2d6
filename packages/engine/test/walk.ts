import { GrammarCompilers } from '../src/grammar/matcher.ts';
import { sessionWords, Word } from '../src/grammar/protocol.ts';
import { grammarOf, type Structure } from '../src/grammar/structure.ts';
import { GrammarVocabulary } from '../src/grammar/vocabulary.ts';
import { readTokenizerFiles } from '../src/text/files.ts';
import { bundled } from './on-cpu.ts';

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const VOCABULARY = 6144;
export const END = 2;

/** The grammars of tiny-chat, in this thread. Its vocabulary has all single bytes: any ill-formed text could be made. */
export class Walker {
  readonly #compilers: GrammarCompilers;
  readonly #vocabulary: GrammarVocabulary;

  private constructor(compilers: GrammarCompilers, vocabulary: GrammarVocabulary) {
    this.#compilers = compilers;
    this.#vocabulary = vocabulary;
  }

  static async open(): Promise<Walker> {
    const vocabulary = new GrammarVocabulary(await readTokenizerFiles(bundled('tiny-chat')), VOCABULARY);
    return new Walker(await GrammarCompilers.open(vocabulary, [END, 0]), vocabulary);
  }

  /**
   * The text of tokens drawn at random from what the grammar allows, rather short ones.
   * @returns undefined where it has not come to an end after `most` tokens
   */
  async walk(structure: Structure, random: () => number, most = 300): Promise<string | undefined> {
    const words = sessionWords(VOCABULARY);
    const session = await this.#compilers.session(grammarOf(structure), [], words);
    const bytes: number[] = [];
    try {
      for (let step = 0; step < most; step++) {
        const token = this.#draw(words, random);
        if (token === END) return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
        bytes.push(...this.#vocabulary.tokens[token]);
        await session.advance(token);
        if (words[Word.BROKEN] !== 0) throw new Error(`token ${token} was allowed and then refused`);
      }
      return undefined;
    } finally {
      session.close();
    }
  }

  /** Whether the grammar takes a text, byte by byte, and may end there. */
  async takes(structure: Structure, text: string): Promise<boolean> {
    const words = sessionWords(VOCABULARY);
    const session = await this.#compilers.session(grammarOf(structure), [], words);
    try {
      for (const byte of new TextEncoder().encode(text)) {
        const token = this.#vocabulary.tokens.findIndex((bytes) => bytes.length === 1 && bytes[0] === byte);
        if (!allowed(words, token)) return false;
        await session.advance(token);
      }
      return allowed(words, END);
    } finally {
      session.close();
    }
  }

  #draw(words: Int32Array, random: () => number): number {
    const tokens = Array.from({ length: VOCABULARY }, (_, token) => token).filter((token) => allowed(words, token));
    if (tokens.length === 0) throw new Error('the grammar allows no token');
    if (allowed(words, END) && random() < 0.3) return END;
    const rest = tokens.filter((token) => token !== END && token !== 0);
    if (rest.length === 0) return END;
    // Closing brackets more often, so that texts come to an end; single bytes too, which may make characters.
    const closing = rest.filter((token) => /^["\]}]/.test(String.fromCharCode(this.#vocabulary.tokens[token][0])));
    const single = rest.filter((token) => this.#vocabulary.tokens[token].length === 1);
    const dice = random();
    const from = dice < 0.25 && closing.length > 0 ? closing : dice < 0.5 && single.length > 0 ? single : rest;
    return from[Math.floor(random() * from.length)];
  }
}

export function allowed(words: Int32Array, token: number): boolean {
  return ((words[Word.MASK + (token >> 5)] >>> (token & 31)) & 1) === 1;
}
