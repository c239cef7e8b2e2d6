import { z } from 'zod';
import type { GenerateRequest } from '@rose/engine';
import { generationFields, generationOf } from '../generation/fields.ts';
import { structureFields, structureOf } from '../generation/structure.ts';
import { invalid } from './errors.ts';
import { JsonObject, parseJson, type JsonValue } from './json.ts';
import { tensorFields } from './generate-inputs.ts';
import type { ModelRequest } from './model.ts';

/** What the vLLM backend generates when a request does not say. */
const DEFAULT_MAX_TOKENS = 16;

const schema = z.object({
  ...generationFields,
  ...structureFields,
  logprobs: z.int().nullish(),
  parse_special: z.boolean().nullish(),
});
const NAMES = Object.keys(schema.shape);
const STRINGS = new Set(['stop', 'bad_words', ...Object.keys(structureFields)]);
/** Objects that may come as the text of one, because a request's parameters cannot be objects. */
const OBJECTS = ['response_format', 'structured_outputs', 'guided_choice'];

export interface GenerateParameters {
  readonly generation: Omit<GenerateRequest, 'prompt'>;
  /** So many most likely tokens beside each drawn one; undefined: no log-probabilities. */
  readonly logprobs: number | undefined;
  /** Control tokens inside the text are control tokens. */
  readonly parseSpecial: boolean;
}

/**
 * The sampling of a request: the JSON text in `sampling_parameters`, then the request's parameters, then tensors of
 * their own; what comes later wins. Values may be strings, as the vLLM backend allows.
 */
export function generateParameters(request: ModelRequest): GenerateParameters {
  const fields: Record<string, unknown> = { max_tokens: DEFAULT_MAX_TOKENS };
  for (const [name, value] of [...samplingText(request), ...request.parameters]) fields[name] = plain(name, value);
  Object.assign(fields, tensorFields(request));
  for (const name of OBJECTS) fields[name] = parsedText(name, fields[name]);
  if (fields.lora_name !== undefined) throw invalid('LoRA feature is not enabled.');
  const unknown = Object.keys(fields).find((name) => !NAMES.includes(name));
  if (unknown !== undefined) throw invalid(`unexpected sampling parameter '${unknown}'; known are ${NAMES.join(', ')}`);

  const parsed = schema.safeParse(fields);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    throw invalid(`parameter '${path.join('.')}': ${message}`);
  }
  const { logprobs, parse_special } = parsed.data;
  const structure = structureOf(parsed.data);
  return {
    generation: { ...generationOf(parsed.data), ...(structure && { structure }) },
    logprobs: logprobs ?? undefined,
    parseSpecial: parse_special ?? false,
  };
}

function parsedText(name: string, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return JSON.parse(value);
  } catch (error) {
    throw invalid(`parameter '${name}' is not JSON: ${(error as Error).message}`);
  }
}

function samplingText({ inputs }: ModelRequest): readonly (readonly [string, JsonValue])[] {
  const tensor = inputs.get('sampling_parameters');
  if (tensor?.datatype !== 'BYTES') return [];
  let value: JsonValue;
  try {
    value = parseJson(tensor.data[0]);
  } catch (error) {
    throw invalid(`input 'sampling_parameters' is not JSON: ${(error as Error).message}`);
  }
  if (!(value instanceof JsonObject)) throw invalid("input 'sampling_parameters' must be the text of a JSON object");
  return value.members;
}

/** A JSON value as the schema reads it; numbers and booleans may come as text. */
function plain(name: string, value: JsonValue): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map((element) => plain(name, element));
  if (value instanceof JsonObject) return Object.fromEntries(value.members.map(([key, v]) => [key, plain(name, v)]));
  if (typeof value !== 'string' || STRINGS.has(name)) return value;
  if (/^\s*(true|false)\s*$/i.test(value)) return value.trim().toLowerCase() === 'true';
  return value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
}
