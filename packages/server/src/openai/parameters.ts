import { z } from 'zod';
import { OpenAIError } from './errors.ts';

type Body = Readonly<Record<string, unknown>>;
/** Whether a value asks for nothing. `undefined` and `null` never ask for anything. */
type IsNeutral = (value: unknown, body: Body) => boolean;

export interface StreamOptions {
  include_usage?: boolean | null | undefined;
  continuous_usage_stats?: false | null | undefined;
  include_obfuscation?: false | null | undefined;
}

/** How a stream is to be sent; what Rose does not do may be said to be off. */
export const streamOptions: z.ZodType<StreamOptions> = z.looseObject({
  include_usage: z.boolean().nullish(),
  continuous_usage_stats: z.literal(false, 'is not supported').nullish(),
  include_obfuscation: z.literal(false, 'is not supported').nullish(),
});

/**
 * Fields of the APIs of OpenAI and vLLM that change no answer, whatever they say: labels for the provider's own books,
 * hints to caches (Rose's needs none), and spaces that only slow tokenizers put.
 */
const LABELS: ReadonlySet<string> = new Set([
  'user',
  'metadata',
  'safety_identifier',
  'prompt_cache_key',
  'spaces_between_special_tokens',
]);

/** Fields of those APIs that Rose does not do, each with the values that ask for nothing. */
const NOT_DONE: Readonly<Record<string, IsNeutral>> = {
  // OpenAI, chat
  audio: never,
  functions: isEmptyArray,
  function_call: oneOf('none', 'auto'),
  modalities: (value) => Array.isArray(value) && value.every((modality) => modality === 'text'),
  prediction: never,
  prompt_cache_retention: oneOf('in_memory', 'in-memory'),
  reasoning_effort: oneOf('none'),
  service_tier: oneOf('auto', 'default'),
  store: oneOf(false),
  tools: isEmptyArray,
  tool_choice: oneOf('none', 'auto'),
  parallel_tool_calls: () => true,
  verbosity: oneOf('medium'),
  web_search_options: never,
  // OpenAI, completions
  best_of: (value, body) => value === (body['n'] ?? 1),
  suffix: oneOf(''),
  // vLLM
  add_special_tokens: oneOf(false),
  chat_template: never,
  continue_final_message: oneOf(false),
  documents: isEmptyArray,
  early_stopping: oneOf(false),
  echo: oneOf(false),
  guided_decoding_backend: never,
  guided_json_object: oneOf(false),
  guided_whitespace_pattern: never,
  include_reasoning: oneOf(true),
  kv_transfer_params: never,
  length_penalty: oneOf(1),
  logits_processors: isEmptyArray,
  media_io_kwargs: never,
  mm_processor_kwargs: never,
  prompt_embeds: never,
  return_token_ids: oneOf(false),
  return_tokens_as_token_ids: oneOf(false),
  structural_tag: never,
  thinking_token_budget: never,
  truncate_prompt_tokens: never,
  use_beam_search: oneOf(false),
  vllm_xargs: never,
};

/**
 * No field is passed over in silence: a body holds fields that the endpoint reads, labels, and nothing else.
 * @param read names of the fields that the endpoint reads
 * @throws OpenAIError naming a field that asks for something Rose does not do, or that nobody knows
 */
export function checkParameters(body: Body, read: Readonly<Record<string, unknown>>): void {
  for (const [field, value] of Object.entries(body)) {
    if (Object.hasOwn(read, field) || LABELS.has(field) || value === null) continue;
    if (!Object.hasOwn(NOT_DONE, field)) {
      throw new OpenAIError(400, `there is no parameter '${field}'`, { param: field, code: 'unknown_parameter' });
    }
    if (NOT_DONE[field](value, body)) continue;
    throw new OpenAIError(400, `${field} is not supported`, { param: field, code: 'unsupported_parameter' });
  }
}

function oneOf(...values: readonly unknown[]): IsNeutral {
  return (value) => values.includes(value);
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

function never(): boolean {
  return false;
}
