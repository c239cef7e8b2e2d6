/** One message of a chat, in OpenAI's shape. Its content is what a client wrote: text, never control tokens. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
  /** How an assistant came to its content; most templates leave it out of earlier turns. */
  readonly reasoning_content?: string;
  /** Calls that an assistant made. */
  readonly tool_calls?: readonly ToolCall[];
  /** The call that this message answers, for the role `tool`. */
  readonly tool_call_id?: string;
}

/** A call as chat templates read it: its arguments are an object, not OpenAI's text of one. */
export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> };
}

/** A tool that the model may call, in OpenAI's shape, which is what chat templates read. */
export interface Tool {
  readonly type: 'function';
  readonly function: {
    readonly name: string;
    readonly description?: string;
    /** A JSON schema. */
    readonly parameters?: Readonly<Record<string, unknown>>;
  };
}

/**
 * What a generation starts from.
 *
 * - `text`: encoded as plain text; control tokens inside it are text too, unless `parseSpecial`. The tokenizer's
 *   beginning token stands before it, if it has one, unless `addSpecial` is false.
 * - `tokens`: ids as they are.
 * - `messages`: through the checkpoint's chat template; the template's own control tokens are control tokens, those a
 *   client wrote are text. `templateArguments` reach the template (`chat_template_kwargs`).
 */
export type Prompt =
  | { readonly kind: 'text'; readonly text: string; readonly parseSpecial?: boolean; readonly addSpecial?: boolean }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] | Int32Array }
  | {
      readonly kind: 'messages';
      readonly messages: readonly ChatMessage[];
      readonly tools?: readonly Tool[];
      readonly addGenerationPrompt?: boolean;
      readonly templateArguments?: Readonly<Record<string, unknown>>;
    };

export type MessagesPrompt = Extract<Prompt, { kind: 'messages' }>;

/** A text or a pair as an encoder model reads it: special tokens added, truncated to the model's context on request. */
export interface EncodedInput {
  readonly tokens: Int32Array;
  /** Token types (segment ids), the same length. */
  readonly types: Int32Array;
}

/** Text work of one model, done in a pool of workers: every method runs off the caller's thread. */
export interface TextPool {
  /** Prompt to ids (decoders). Adds a beginning token exactly when the tokenizer's own post-processor does. */
  encodePrompt(prompt: Prompt): Promise<Int32Array>;
  /** The text that a conversation's tokens come from: its rendered chat template. */
  render(prompt: MessagesPrompt): Promise<string>;
  /** Texts to encoder inputs, each with the tokenizer's special tokens, `maxTokens` at most when `truncate`. */
  encodeTexts(texts: readonly string[], options: TruncateOptions): Promise<EncodedInput[]>;
  /** Pairs to encoder inputs; truncation shortens the text, never the query (an over-long query is an error). */
  encodePairs(
    pairs: readonly { readonly query: string; readonly text: string }[],
    options: TruncateOptions,
  ): Promise<EncodedInput[]>;
  /** Ids to text, all at once; control tokens are left out unless `keepSpecial`. */
  decode(tokens: Int32Array, options?: { readonly keepSpecial?: boolean }): Promise<string>;
  /** Tokens as the tokenizer's own files write them (`Ġworld`); empty for ids that it does not know. */
  tokenNames(tokens: Int32Array): Promise<string[]>;
  /** The checkpoint's tokenizer_config.json, its named tokens as texts, with the chat template wherever that lies. */
  configuration(): Promise<TokenizerConfiguration>;
  close(): Promise<void>;
}

export type TokenizerConfiguration = Readonly<Record<string, unknown>>;

export interface TruncateOptions {
  readonly maxTokens: number;
  /** Shorten what is too long; otherwise it is an `invalid` error that names the input and both lengths. */
  readonly truncate: boolean;
}

/**
 * Streams one sequence's ids as text. Text comes out as soon as it is whole UTF-8: the concatenation of all pieces is
 * the same however the ids are split. Runs on the caller's thread: a table look-up a token.
 */
export interface Detokenizer {
  /** Text that this token completes; empty while a character is unfinished. Control tokens give no text. */
  push(token: number): string;
  /** What is left at the end; an unfinished character comes out as U+FFFD. */
  flush(): string;
}

/** Whether control tokens have a text: all of them, none, or those of these names. */
export type KeepSpecial = boolean | readonly string[];

/** The tokenizer's facts that the server's own thread needs; loaded once a model. */
export interface Vocabulary {
  readonly size: number;
  /** @param options `continues`: the text goes on with another, so that no space at its beginning falls away */
  detokenizer(options?: { readonly keepSpecial?: KeepSpecial; readonly continues?: boolean }): Detokenizer;
  /** Bytes of one token as text pieces see them, for OpenAI's `bytes` in logprobs. */
  tokenBytes(token: number): Uint8Array;
  /** Text of one token alone, control tokens by their name, for logprobs. */
  tokenText(token: number): string;
}
