import type { Dialect, DialectOptions } from '../answer/dialect.ts';
import { ChatEncoder } from './chat.ts';
import { compileDecoder, type DecoderTables } from './decoder.ts';
import { Encoder } from './encoder.ts';
import { namedTokens, readTokenizerFiles, type TokenizerFiles } from './files.ts';
import { encodePair, encodeText } from './inputs.ts';
import { readPostProcessor, type PostProcessor } from './post-processor.ts';
import type { TextCalls } from './protocol.ts';
import { ChatTemplate } from './template.ts';
import type { EncodedInput, MessagesPrompt, Prompt, TokenizerConfiguration, Vocabulary } from './text.ts';
import { readTokens } from './tokens.ts';
import { decodeAll, TableVocabulary } from './vocabulary.ts';

/** One model's text work, on the calling thread. */
export class Codec {
  readonly tables: DecoderTables;
  readonly dialect: Dialect;
  readonly #encoder: Encoder;
  readonly #chat: ChatEncoder;
  readonly #post: PostProcessor;
  readonly #vocabulary: Vocabulary;
  readonly #names: readonly (string | undefined)[];
  readonly #files: TokenizerFiles;

  constructor(files: TokenizerFiles, options: DialectOptions = {}) {
    const tokens = readTokens(files);
    this.#files = files;
    this.#names = tokens.texts;
    this.tables = compileDecoder(files, tokens);
    this.#post = readPostProcessor(files);
    this.#encoder = new Encoder(files, tokens);
    const template = new ChatTemplate(files);
    this.dialect = template.dialect(options);
    this.#chat = new ChatEncoder(this.#encoder, template, tokens);
    this.#vocabulary = new TableVocabulary(this.tables);
  }

  static async open(directory: string, options: DialectOptions = {}): Promise<Codec> {
    return new Codec(await readTokenizerFiles(directory), options);
  }

  encodePrompt(prompt: Prompt): Int32Array {
    switch (prompt.kind) {
      case 'tokens':
        return Int32Array.from(prompt.tokens);
      case 'messages':
        // Templates write the beginning token themselves.
        return Int32Array.from(this.#chat.encode(prompt));
      case 'text': {
        const { text, parseSpecial = false, addSpecial = true } = prompt;
        const sections = parseSpecial ? this.#encoder.sections(text) : [text];
        return Int32Array.from([...(addSpecial ? this.#beginning() : []), ...this.#encoder.encodeSections(sections)]);
      }
    }
  }

  render(prompt: MessagesPrompt): string {
    return this.#chat.render(prompt);
  }

  encodeTexts(...[texts, options]: TextCalls['encodeTexts']): EncodedInput[] {
    return texts.map((text, index) => encodeText(this.#encoder, this.#post, text, index, options));
  }

  encodePairs(...[pairs, options]: TextCalls['encodePairs']): EncodedInput[] {
    return pairs.map((pair, index) => encodePair(this.#encoder, this.#post, pair, index, options));
  }

  decode(...[tokens, options]: TextCalls['decode']): string {
    return decodeAll(this.#vocabulary.detokenizer(options), tokens);
  }

  tokenNames(...[tokens]: TextCalls['tokenNames']): string[] {
    return Array.from(tokens, (token) => this.#names[token] ?? '');
  }

  configuration(): TokenizerConfiguration {
    const { config, template } = this.#files;
    return { ...config, ...namedTokens(config), chat_template: template ?? null };
  }

  /** Tokens that the post-processor puts before a text. Those after it would end a prompt that is to be continued. */
  #beginning(): number[] {
    const { single } = this.#post;
    const text = single.findIndex((slot) => slot.kind === 'text');
    return single.slice(0, text).flatMap((slot) => (slot.kind === 'special' ? slot.ids : []));
  }
}
