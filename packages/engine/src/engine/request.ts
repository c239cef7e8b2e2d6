import type { SerializedError } from '../errors.ts';
import type { GrammarSource } from '../grammar/structure.ts';

/**
 * How the next token is drawn. Applied in this order: logit bias, repetition, presence and frequency penalties, tokens
 * that are not allowed, temperature, top-k, top-p, min-p, draw. A field's neutral value switches its step off.
 */
export interface SamplingParams {
  /** 0: greedy (the steps after the penalties do not matter). Neutral: 1. */
  readonly temperature: number;
  /** Keep the k most likely tokens. Neutral: 0. */
  readonly topK: number;
  /** Keep the smallest set of most likely tokens whose probabilities sum to at least this. Neutral: 1. */
  readonly topP: number;
  /** Keep tokens with at least this share of the most likely token's probability. Neutral: 0. */
  readonly minP: number;
  /** Divide positive and multiply negative logits of tokens in the prompt or the answer (CTRL, 2019). Neutral: 1. */
  readonly repetitionPenalty: number;
  /** Subtract once from logits of tokens in the answer. Neutral: 0. */
  readonly presencePenalty: number;
  /** Subtract for each occurrence in the answer. Neutral: 0. */
  readonly frequencyPenalty: number;
  /** Added to the logits of single tokens. */
  readonly logitBias: readonly (readonly [token: number, bias: number])[];
  /** The only tokens that may be drawn, at least one. Neutral: undefined. */
  readonly allowedTokens: readonly number[] | undefined;
  /** Sequences of tokens that the answer must not contain: the last token of one is not drawn behind the others. */
  readonly badWords: readonly (readonly number[])[];
  /** Random draws depend on (seed, position) alone. A whole number from 0 to 2^53 - 1. */
  readonly seed: number;
}

/** The most likely token, always: every other step of sampling is off. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  allowedTokens: undefined,
  badWords: [],
  seed: 0,
};

/** Generate tokens after a prompt. */
export interface GenerateCommand {
  readonly kind: 'generate';
  readonly tokens: Int32Array;
  readonly sampling: SamplingParams;
  /** The engine also stops at the model's context length. 0: run the prompt alone. */
  readonly maxTokens: number;
  /** End tokens are not drawn before this many tokens. */
  readonly minTokens: number;
  /** Tokens that end the sequence; they are not part of its text. Empty when end tokens are ignored. */
  readonly stopTokens: readonly number[];
  /** Report log-probabilities: of the drawn token and of this many most likely ones (0 to 20). -1: none. */
  readonly logprobs: number;
  /**
   * Report log-probabilities of the prompt's tokens, and of this many most likely ones in each one's place (0 to 20).
   * -1: none. Every row of the prompt is computed for them, whatever the prefix tree has.
   */
  readonly promptLogprobs: number;
  /** What is computed for this request is reused only by requests of its tenant with the same salt. */
  readonly salt: string;
  /** What the answer's text must be; undefined: anything. */
  readonly grammar?: GrammarSource | undefined;
}

/** Run an encoder over one sequence. The result is a vector (embedding) or a row of label logits (classifier). */
export interface PoolCommand {
  readonly kind: 'pool';
  readonly tokens: Int32Array;
  readonly types: Int32Array;
}

/** One unit of work, as the engine's channel carries it. */
export interface EngineRequest {
  /** Unique within the channel. */
  readonly id: number;
  /** The model, by the number its load was given. */
  readonly model: number;
  /** Whose request it is: tenants share the engine fairly and never each other's computed prefixes. */
  readonly tenant: string;
  /** Smaller is sooner; among equals, first come first served within a tenant. Default 0. */
  readonly priority: number;
  /** Wall-clock milliseconds since the epoch after which the request fails with `deadline`; undefined: none. */
  readonly deadline: number | undefined;
  /** The id of an earlier request with the same prompt: the two compute it once. */
  readonly siblingOf: number | undefined;
  readonly command: GenerateCommand | PoolCommand;
}

/** Why a sequence ended. `length`: max tokens or the context's end. */
export type FinishReason = 'stop' | 'length';

/** Log-probabilities of one drawn token, from the model's own distribution (before bias, penalties and temperature). */
export interface TokenLogprobs {
  readonly logprob: number;
  readonly topTokens: readonly number[];
  readonly topLogprobs: readonly number[];
}

/**
 * What the model makes of tokens that are given, each after those before it; by the model's own distribution. The lists
 * have an entry for each token; those of the most likely ones as many for each as were asked for, likeliest first, and
 * -1 where the vocabulary has no more.
 */
export interface PromptLogprobs {
  readonly logprobs: Float32Array;
  /** 1: no token is more likely. Among equals the smaller id comes first. */
  readonly ranks: Int32Array;
  readonly topTokens: Int32Array;
  readonly topLogprobs: Float32Array;
}

/**
 * What the engine sends back. A decoder's request starts with `begun`, and `prompt`s come before its first token. A
 * request ends with exactly one of `finished`,
 * `pooled` and `failed`.
 */
export type EngineEvent =
  | {
      readonly kind: 'begun';
      readonly id: number;
      /** Prompt tokens that need not be computed, because they were for another request. */
      readonly cachedTokens: number;
    }
  | {
      readonly kind: 'prompt';
      readonly id: number;
      /** Place in the prompt of the first of these tokens; the first one of all has nothing before it and is left out. */
      readonly from: number;
      readonly logprobs: PromptLogprobs;
    }
  | {
      readonly kind: 'token';
      readonly id: number;
      readonly token: number;
      readonly logprobs: TokenLogprobs | undefined;
    }
  | {
      readonly kind: 'finished';
      readonly id: number;
      readonly reason: FinishReason;
      readonly stopToken: number | undefined;
    }
  | { readonly kind: 'pooled'; readonly id: number; readonly values: Float32Array }
  | { readonly kind: 'failed'; readonly id: number; readonly error: SerializedError };
