import { z } from 'zod';
import type { GenerateRequest, SamplingParams } from '@rose/engine';

/**
 * Fields of a generation that all protocols share: OpenAI's, and beside them those that vLLM's clients send. `null`
 * means "not set".
 */
export interface GenerationFields {
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  /** 0 or -1: off. */
  top_k?: number | null | undefined;
  min_p?: number | null | undefined;
  repetition_penalty?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  logit_bias?: Record<string, number> | null | undefined;
  /** The only tokens that may be drawn. */
  allowed_token_ids?: number[] | null | undefined;
  /** Texts that the answer must not contain. */
  bad_words?: string[] | null | undefined;
  seed?: number | null | undefined;
  n?: number | null | undefined;
  max_tokens?: number | null | undefined;
  min_tokens?: number | null | undefined;
  stop?: string | string[] | null | undefined;
  stop_token_ids?: number[] | null | undefined;
  include_stop_str_in_output?: boolean | null | undefined;
  ignore_eos?: boolean | null | undefined;
  skip_special_tokens?: boolean | null | undefined;
  /** Smaller is sooner. */
  priority?: number | null | undefined;
  /** Computed prompts are reused only by requests with the same salt. */
  cache_salt?: string | null | undefined;
}

/** Types only: the engine checks ranges and names the field. */
export const generationFields: { [K in keyof Required<GenerationFields>]: z.ZodType<GenerationFields[K]> } = {
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_k: z.int().nullish(),
  min_p: z.number().nullish(),
  repetition_penalty: z.number().nullish(),
  presence_penalty: z.number().nullish(),
  frequency_penalty: z.number().nullish(),
  logit_bias: z.record(z.string().regex(/^\d+$/, 'keys must be token ids'), z.number()).nullish(),
  allowed_token_ids: z.array(z.int()).nullish(),
  bad_words: z.array(z.string()).nullish(),
  seed: z.number().refine(isSeed, 'must be a whole number from -2^63 to 2^64 - 1').nullish(),
  n: z.int().nullish(),
  max_tokens: z.int().nullish(),
  min_tokens: z.int().nullish(),
  stop: z.union([z.string(), z.array(z.string())], 'must be a string or an array of strings').nullish(),
  stop_token_ids: z.array(z.int()).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  ignore_eos: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  priority: z.int().nullish(),
  cache_salt: z.string().nullish(),
};

/** The engine's request, but for prompt, signal and log-probabilities. */
export function generationOf(fields: GenerationFields): Omit<GenerateRequest, 'prompt'> {
  const sampling: Partial<SamplingParams> = given({
    temperature: fields.temperature,
    topK: fields.top_k === -1 ? 0 : fields.top_k,
    topP: fields.top_p,
    minP: fields.min_p,
    repetitionPenalty: fields.repetition_penalty,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
    logitBias: fields.logit_bias && Object.entries(fields.logit_bias).map(([id, bias]) => [Number(id), bias] as const),
    allowedTokens: fields.allowed_token_ids,
    seed: typeof fields.seed === 'number' ? seedOf(fields.seed) : undefined,
  });
  const request = given({
    maxTokens: fields.max_tokens,
    minTokens: fields.min_tokens,
    stop: typeof fields.stop === 'string' ? [fields.stop] : fields.stop,
    includeStop: fields.include_stop_str_in_output,
    stopTokens: fields.stop_token_ids,
    ignoreEos: fields.ignore_eos,
    keepSpecial: typeof fields.skip_special_tokens === 'boolean' ? !fields.skip_special_tokens : undefined,
    badWords: fields.bad_words,
    n: fields.n,
    priority: fields.priority,
    cacheSalt: fields.cache_salt,
  });
  return { sampling, ...request };
}

/** Clients may send any 64-bit integer, with a sign or without. JSON is read in doubles: 2^64 - 1 is 2^64 there. */
function isSeed(value: number): boolean {
  return Number.isInteger(value) && value >= -(2 ** 63) && value <= 2 ** 64;
}

/** The engine's seeds have 53 bits. */
function seedOf(seed: number): number {
  return Number(BigInt.asUintN(53, BigInt(seed)));
}

/** The fields that have a value. */
function given<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> };
}
