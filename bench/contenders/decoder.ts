/** What both decoders' processes do; times are taken inside them. */
export interface DecoderOpen {
  /** Model directory or file. */
  readonly path: string;
  readonly threads: number;
  readonly quantize: 'int8' | 'int4' | undefined;
  /** Sequences that are to run together. Default 1. */
  readonly streams?: number;
}

/** Generate greedily after a prompt that shares nothing with earlier ones. End tokens do not end it. */
export interface DecoderRun {
  readonly tokens: readonly number[];
  readonly generate: number;
  /** llama.cpp only. */
  readonly flashAttention?: boolean;
}

export interface DecoderTimes {
  /** From the request to the first token. */
  readonly firstMs: number;
  /** From the first token to the last. */
  readonly restMs: number;
  readonly tokens: readonly number[];
}

/** Generate after several prompts at once, all sent together. */
export interface StreamsRun {
  readonly prompts: readonly (readonly number[])[];
  readonly generate: number;
  /** llama.cpp only. */
  readonly flashAttention?: boolean;
}

/** For each stream, when each of its tokens came: milliseconds since all were sent. */
export type StreamsTimes = readonly (readonly number[])[];

/** The most likely tokens after a prompt, and the natural logarithms of their probabilities. */
export type TopLogprobs = readonly { readonly token: number; readonly logprob: number }[];

export const TOP = 20;
