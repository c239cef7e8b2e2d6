import type { FastifyRequest } from 'fastify';
import type { ModelHub, ServedModel, Task } from '@rose/engine';
import type { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { bodyOf } from '../http/body.ts';
import { invalidField, OpenAIError, schemaError } from './errors.ts';

/** A request's body as its schema describes it. */
export async function readBody<T>(request: FastifyRequest, schema: z.ZodType<T>, context: ServerContext): Promise<T> {
  const contentType = request.headers['content-type'] ?? '';
  // Browsers send other types to any site without asking first; only JSON shows that the page was allowed to.
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType)) {
    const sent = contentType === '' ? 'no Content-Type' : `Content-Type ${contentType}`;
    throw new OpenAIError(
      415,
      `the body must be JSON, sent with the header "Content-Type: application/json"; got ${sent}`,
    );
  }
  const bytes = await bodyOf(request, context.maxBodyBytes);
  let body: unknown;
  try {
    body = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new OpenAIError(400, `the body is not valid JSON: ${(error as Error).message}`);
  }
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw schemaError(parsed.error);
  return parsed.data;
}

const CANNOT: Readonly<Record<Task, string>> = {
  generate: 'does not generate text',
  embed: 'does not compute embeddings',
  score: 'does not rank texts',
};

/** The model that a request names. A request may leave the name out where only one model can do the task. */
export function modelFor(hub: ModelHub, name: string | null | undefined, task: Task): ServedModel {
  const able = hub.models.filter((model) => model.task === task);
  const names = able.map((model) => `'${model.name}'`).join(', ') || 'none here';
  if (name === undefined || name === null || name === '') {
    if (able.length === 1) return able[0];
    throw invalidField('model', `you must provide a model parameter; models for this: ${names}`);
  }
  const model = findModel(hub, name);
  if (model.task === task) return model;
  throw invalidField('model', `the model '${name}' ${CANNOT[task]}; models for this: ${names}`);
}

export function findModel(hub: ModelHub, name: string): ServedModel {
  const model = hub.models.find((candidate) => candidate.name === name);
  if (model !== undefined) return model;
  const known = hub.models.map((candidate) => `'${candidate.name}'`).join(', ');
  const message = `the model '${name}' does not exist; loaded: ${known || 'none'}`;
  throw new OpenAIError(404, message, { param: 'model', code: 'model_not_found' });
}

/**
 * Fields that Rose does not do yet, each with the values that ask for nothing. `undefined` and `null` never do.
 */
const NOT_DONE: Readonly<Record<string, (value: unknown) => boolean>> = {
  tools: isEmptyArray,
  tool_choice: (value) => value === 'none' || value === 'auto',
  functions: isEmptyArray,
  function_call: (value) => value === 'none' || value === 'auto',
  response_format: (value) => (value as { type?: unknown }).type === 'text',
  audio: never,
  modalities: (value) => Array.isArray(value) && value.every((modality) => modality === 'text'),
  prediction: never,
  web_search_options: never,
  reasoning_effort: (value) => value === 'none',
  chat_template: never,
  continue_final_message: isFalse,
  documents: isEmptyArray,
  echo: isFalse,
  suffix: (value) => value === '',
  best_of: (value) => value === 1,
  use_beam_search: isFalse,
  length_penalty: (value) => value === 1,
  prompt_logprobs: never,
  prompt_embeds: never,
  allowed_token_ids: isEmptyArray,
  bad_words: isEmptyArray,
  logits_processors: isEmptyArray,
  structured_outputs: never,
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
};

/** @throws OpenAIError naming a field that asks for something Rose does not do */
export function refuseNotDone(body: Readonly<Record<string, unknown>>): void {
  for (const [field, isNeutral] of Object.entries(NOT_DONE)) {
    const value = body[field];
    if (value === undefined || value === null || isNeutral(value)) continue;
    throw new OpenAIError(400, `${field} is not supported`, { param: field, code: 'unsupported_parameter' });
  }
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

function isFalse(value: unknown): boolean {
  return value === false;
}

function never(): boolean {
  return false;
}
