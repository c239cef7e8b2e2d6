import type { Dialect, DialectOptions } from '../answer/dialect.ts';
import type { SerializedError } from '../errors.ts';
import type { DecoderTables } from './decoder.ts';
import type {
  EncodedInput,
  KeepSpecial,
  MessagesPrompt,
  Prompt,
  TextPool,
  TokenizerConfiguration,
  TruncateOptions,
} from './text.ts';

/** What a text worker is started with. */
export interface TextWorkerData {
  readonly directory: string;
  readonly dialect: DialectOptions;
}

/** Arguments of a pool's methods, by name. */
export interface TextCalls {
  encodePrompt: [prompt: Prompt];
  render: [prompt: MessagesPrompt];
  encodeTexts: [texts: readonly string[], options: TruncateOptions];
  encodePairs: [pairs: Parameters<TextPool['encodePairs']>[0], options: TruncateOptions];
  decode: [tokens: Int32Array, options: { readonly keepSpecial?: KeepSpecial }];
  tokenNames: [tokens: Int32Array];
  configuration: [];
}

export type TextCall = { [K in keyof TextCalls]: { readonly method: K; readonly args: TextCalls[K] } }[keyof TextCalls];

export type TextResult = Int32Array | EncodedInput[] | string | string[] | TokenizerConfiguration;

/** What the other side needs to know of the tokenizer and the chat template. */
export interface TextFacts {
  readonly tables: DecoderTables;
  readonly dialect: Dialect;
}

/** A worker is `ready` (or its start `failed`) once, then answers calls one by one in order. */
export type FromTextWorker =
  | ({ readonly kind: 'ready' } & TextFacts)
  | { readonly kind: 'result'; readonly value: TextResult }
  | { readonly kind: 'failed'; readonly error: SerializedError };
