import { performance } from 'node:perf_hooks';
import { RoseError } from '../errors.ts';
import { Word } from './protocol.ts';
import type { GrammarSource } from './structure.ts';
import type { GrammarVocabulary } from './vocabulary.ts';
import { loadXGrammar, type CompiledGrammar, type GrammarCompiler, type GrammarMatcher } from './xgrammar.ts';

/** Compiled grammars that are kept for the next request with the same one. */
const MOST_COMPILED = 32;

/** Compiles grammars over one vocabulary. It must be alone in its thread: what the library prints is read here. */
export class GrammarCompilers {
  readonly #library: ReturnType<typeof loadXGrammar>;
  readonly #vocabulary: GrammarVocabulary;
  readonly #compiler: GrammarCompiler;
  /** The one used last is the last one. */
  readonly #compiled = new Map<string, CompiledGrammar>();
  /** Reads a grammar for the first time: an instance that has met a wrong one is not used again. */
  #trial: ReturnType<typeof loadXGrammar> | undefined;

  private constructor(
    library: ReturnType<typeof loadXGrammar>,
    vocabulary: GrammarVocabulary,
    compiler: GrammarCompiler,
  ) {
    this.#library = library;
    this.#vocabulary = vocabulary;
    this.#compiler = compiler;
  }

  static async open(vocabulary: GrammarVocabulary, endTokens: readonly number[]): Promise<GrammarCompilers> {
    const library = loadXGrammar();
    const { tokens } = vocabulary;
    // The declaration knows strings alone; bytes pass as they are.
    const info = await library.TokenizerInfo.createTokenizerInfo(
      tokens as unknown as string[],
      'raw',
      false,
      tokens.length,
      [...endTokens],
    );
    const compiler = await library.GrammarCompiler.createGrammarCompiler(info, false);
    return new GrammarCompilers(library, vocabulary, compiler);
  }

  /**
   * Begin an answer, or go on with one that has these tokens. The next mask is in `words` when the promise resolves.
   * @throws RoseError `invalid` for what is no grammar
   */
  async session(source: GrammarSource, tokens: readonly number[], words: Int32Array): Promise<GrammarSession> {
    const grammar = await this.#compile(source);
    const matcher = await this.#library.GrammarMatcher.createGrammarMatcher(grammar);
    const session = new GrammarSession(matcher, this.#vocabulary, source.controls, words);
    for (const token of tokens) session.accept(token);
    await session.publish(tokens.length + 1);
    return session;
  }

  async #compile(source: GrammarSource): Promise<CompiledGrammar> {
    const key = `${source.root}\n${source.ebnf}`;
    let grammar = this.#compiled.get(key);
    if (grammar === undefined) {
      await this.#try(source);
      grammar = await this.#compiler.compileGrammar(source.ebnf, source.root);
    } else this.#compiled.delete(key);
    this.#compiled.set(key, grammar);
    if (this.#compiled.size > MOST_COMPILED) {
      const [[oldest, unused]] = this.#compiled;
      this.#compiled.delete(oldest);
      unused.dispose();
    }
    return grammar;
  }

  async #try({ ebnf, root, param }: GrammarSource): Promise<void> {
    const printed: string[] = [];
    const before = console.error;
    // An instance takes the function when it is made, so this one asks for it each time.
    console.error = (...values: unknown[]) => this.#print?.(values.join(' '));
    this.#print = (line) => void printed.push(line);
    try {
      this.#trial ??= loadXGrammar();
      (await this.#trial.Grammar.fromEBNF(ebnf, root)).dispose();
    } catch {
      this.#trial = undefined;
      const why = /^\[FATAL\] \S+ (.*)/.exec(printed[0] ?? '')?.[1] ?? 'it cannot be read';
      throw new RoseError('invalid', `${param}: ${why}`, { param });
    } finally {
      console.error = before;
      this.#print = undefined;
    }
  }

  #print: ((line: string) => void) | undefined;
}

/** One answer's way through its grammar. */
export class GrammarSession {
  readonly #matcher: GrammarMatcher;
  readonly #vocabulary: GrammarVocabulary;
  readonly #words: Int32Array;
  /** Control tokens whose text is not part of this answer. */
  readonly #hidden: readonly number[];
  #excluded: Int32Array | undefined;

  constructor(matcher: GrammarMatcher, vocabulary: GrammarVocabulary, controls: readonly string[], words: Int32Array) {
    this.#matcher = matcher;
    this.#vocabulary = vocabulary;
    this.#words = words;
    this.#hidden = [...vocabulary.controls].filter(([name]) => !controls.includes(name)).map(([, id]) => id);
  }

  /** A token was drawn. */
  async advance(token: number): Promise<void> {
    this.accept(token);
    await this.publish(1);
  }

  accept(token: number): void {
    if (!this.#matcher.acceptToken(token)) this.#words[Word.BROKEN] = 1;
    this.#excluded = this.#vocabulary.excludedAfter(token);
  }

  /** Write which tokens may come next, and tell whoever waits. It is the mask behind so many more places than the last. */
  async publish(places: number): Promise<void> {
    const words = this.#words;
    const started = performance.now();
    // After an end token nothing comes.
    if (words[Word.BROKEN] === 0 && !this.#matcher.isTerminated()) {
      const mask = await this.#matcher.getNextTokenBitmask();
      const { length } = this.#vocabulary.tokens;
      if (length % 32 !== 0) mask[mask.length - 1] &= (1 << (length % 32)) - 1;
      for (const token of this.#hidden) mask[token >> 5] &= ~(1 << (token & 31));
      if (this.#excluded !== undefined) for (const token of this.#excluded) mask[token >> 5] &= ~(1 << (token & 31));
      words.set(mask, Word.MASK);
    }
    words[Word.MICROSECONDS] = Math.round((performance.now() - started) * 1000);
    Atomics.add(words, Word.MASKS, places);
    Atomics.notify(words, Word.MASKS);
  }

  close(): void {
    this.#matcher.dispose();
  }
}
