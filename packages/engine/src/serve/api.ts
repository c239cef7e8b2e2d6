import type { MemoryReport } from '../device/device.ts';
import type { ModelSpec, Task } from '../model/spec.ts';
import type { GenerationDefaults } from '../checkpoint/checkpoint.ts';
import type { Dialect } from '../answer/dialect.ts';
import type { Structure } from '../grammar/structure.ts';
import type { KeepSpecial, Prompt, TextPool, Vocabulary } from '../text/text.ts';
import type { FinishReason, SamplingParams } from '../engine/request.ts';

/**
 * The one face that protocols and the library see. A protocol turns the wire's message into a call here and the
 * result back into its own words; it never sees tokens of the engine's channel, plans or devices.
 */
export interface ModelHub {
  /** Loaded models in the order they were named. */
  readonly models: readonly ServedModel[];
  /** The model with this name; a `not_found` RoseError that lists what there is otherwise. */
  get(name: string): ServedModel;
  /** True only when every model's engine answered a probe step lately and none has failed. */
  ready(): Promise<boolean>;
  readonly stats: HubStats;
  /** Stop admitting, let running requests end within the limit, then fail the rest with `unavailable`. */
  drain(limitMs: number): Promise<void>;
  close(): Promise<void>;
}

export interface HubStats {
  /** Device name for people, such as `cpu (2 threads, revectorized WebAssembly)`. */
  readonly device: string;
  /** How often an engine was started in the place of one that was lost. */
  readonly restarts: number;
}

export interface ServedModel {
  readonly name: string;
  readonly task: Task;
  readonly spec: ModelSpec;
  readonly defaults: GenerationDefaults;
  readonly vocabulary: Vocabulary;
  /** How the model writes calls of tools and reasoning. */
  readonly dialect: Dialect;
  /** Text to tokens and back, off the caller's thread. */
  readonly text: Omit<TextPool, 'close' | 'encodePairs'>;
  /** What its owner should know: defaults taken where the checkpoint is silent, parts of it that are not honoured. */
  readonly notes: readonly string[];
  /** Unix seconds at which it became ready. */
  readonly loadedAt: number;
  /** Bytes of weights, sequence memory and workspace on the device, and the pages for keys and values. */
  readonly memory: MemoryReport;
  /** Counters since the load; plain numbers that only grow, but for those from `running` on, which say how it is now. */
  readonly counters: Readonly<ModelCounters>;
  ready(): Promise<boolean>;
  /** Decoders. Throws `unsupported` for other tasks. */
  generate(request: GenerateRequest): AsyncIterable<GenerateEvent>;
  /** Embedding models. */
  embed(request: EmbedRequest): Promise<EmbedResult>;
  /** Classifiers over pairs (rerank). Raw logits, a row of labels for each input. */
  score(request: ScoreRequest): Promise<ScoreResult>;
}

export interface ModelCounters {
  requests: number;
  failures: number;
  cancelled: number;
  promptTokens: number;
  /** Prompt tokens that were found computed in the prefix tree. */
  cachedTokens: number;
  generatedTokens: number;
  /** Sequences that gave their pages back because those ran out, and were computed anew. */
  preemptions: number;
  /** Sequences that gave their place to another tenant or a higher priority for a while. */
  turns: number;
  /** Engine steps that failed, whether or not a request did because of it. */
  stepFailures: number;
  /** Engine steps and the sequences they carried, for the mean batch size. */
  steps: number;
  stepSequences: number;
  running: number;
  waiting: number;
  /** Pages of keys and values: in use by running sequences, kept for prompts to come, and all there are. */
  usedPages: number;
  cachedPages: number;
  pages: number;
}

export interface GenerateRequest {
  readonly prompt: Prompt;
  /** Fields left out come from the checkpoint's generation_config.json, then from the neutral values. */
  readonly sampling?: Partial<SamplingParams>;
  /** Default: what fits the context. 0: read the prompt and answer nothing. */
  readonly maxTokens?: number;
  readonly minTokens?: number;
  /** End before the first of these texts (it is not part of the answer unless `includeStop`). */
  readonly stop?: readonly string[];
  readonly includeStop?: boolean;
  /** Tokens that end the answer besides the checkpoint's end tokens. */
  readonly stopTokens?: readonly number[];
  /** Go on past end tokens. */
  readonly ignoreEos?: boolean;
  /** Keep the text of control tokens in the answer: of all, or of those named. */
  readonly keepSpecial?: KeepSpecial;
  /** The answer is shown behind its prompt: keep the space at its beginning that some tokenizers drop from a text. */
  readonly continues?: boolean;
  /** Report the log-probability of each token and of so many most likely ones (0 to 20). */
  readonly logprobs?: number;
  /**
   * Report the log-probability of each token of the prompt, and of so many most likely ones in its place (0 to 20). The
   * whole prompt is computed for it: nothing is taken from earlier requests.
   */
  readonly promptLogprobs?: number;
  /**
   * Texts that the answer must not contain, as tokens: each as the tokenizer writes it at the beginning of a text, and
   * behind a space. Other ways to write the same text with tokens are not looked for.
   */
  readonly badWords?: readonly string[];
  /** What each answer's text must be. */
  readonly structure?: Structure;
  /** Independent answers to the prompt; answer i draws with seed + i. Default 1. */
  readonly n?: number;
  /** Who asks: tenants share the model fairly, and what is computed for one is never reused for another. Default: ''. */
  readonly tenant?: string;
  /** What is computed for this request is reused only by requests of its tenant with the same salt. */
  readonly cacheSalt?: string;
  /** Smaller is sooner. Default 0. */
  readonly priority?: number;
  /** Milliseconds from now; covers queue and generation. */
  readonly timeoutMs?: number;
  /** Abort to cancel: the engine forgets the request at its next step. */
  readonly signal?: AbortSignal;
}

/** `start` comes first, once; then `delta`s of all answers as they come; an answer ends with one `end`. */
export type GenerateEvent =
  | {
      readonly kind: 'start';
      readonly promptTokens: number;
      /** Of these, tokens that need not be computed, because they had been for an earlier request. */
      readonly cachedTokens: number;
      readonly prompt: Int32Array;
      /** With `promptLogprobs`: the prompt's tokens from the second one on, since the first has nothing before it. */
      readonly judged: readonly JudgedToken[] | undefined;
    }
  | {
      readonly kind: 'delta';
      /** Which of the n answers. */
      readonly index: number;
      /** New text, perhaps empty. */
      readonly text: string;
      /** New tokens; with the text of stop strings cut off, tokens may cover more than the text. */
      readonly tokens: readonly GeneratedToken[];
    }
  | {
      readonly kind: 'end';
      readonly index: number;
      readonly reason: FinishReason;
      /** The stop string or token that ended it; undefined for the checkpoint's end tokens and for `length`. */
      readonly stop: string | number | undefined;
      readonly generatedTokens: number;
    };

export interface GeneratedToken {
  readonly token: number;
  /** With `logprobs` only. */
  readonly logprob?: number;
  readonly top?: readonly { readonly token: number; readonly logprob: number }[];
}

/** A token that was given, and what the model makes of it: by its own distribution, before bias, penalties and temperature. */
export interface JudgedToken extends Required<GeneratedToken> {
  /** 1: no token is more likely. */
  readonly rank: number;
}

export interface EmbedRequest {
  readonly inputs: readonly (string | readonly number[])[];
  /** Keep the first so many elements and normalise again (Matryoshka). */
  readonly dimensions?: number;
  /** Shorten inputs that are too long instead of refusing them. Default false. */
  readonly truncate?: boolean;
  readonly tenant?: string;
  readonly timeoutMs?: number;
  readonly priority?: number;
  readonly signal?: AbortSignal;
}

export interface EmbedResult {
  readonly embeddings: readonly Float32Array[];
  /** Tokens of all inputs, special ones included. */
  readonly promptTokens: number;
}

/** A pair of texts, or ids with their token types as the tokenizer would have made them. */
export type ScoreInput =
  | { readonly query: string; readonly text: string }
  | { readonly tokens: readonly number[]; readonly types?: readonly number[] };

export interface ScoreRequest {
  readonly inputs: readonly ScoreInput[];
  /** Default false. */
  readonly truncate?: boolean;
  readonly tenant?: string;
  readonly timeoutMs?: number;
  readonly priority?: number;
  readonly signal?: AbortSignal;
}

/** What a classifier said of each input. */
export interface ScoreResult {
  /** Label logits for each input. */
  readonly logits: readonly Float32Array[];
  readonly promptTokens: number;
}
