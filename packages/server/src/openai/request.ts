import type { FastifyRequest } from 'fastify';
import type { ModelHub, ServedModel, Task } from '@rose/engine';
import type { z } from 'zod';
import type { ServerContext } from '../context.ts';
import { bodyOf } from '../http/body.ts';
import { invalidField, OpenAIError, schemaError } from './errors.ts';

/** A request's body as its schema describes it. */
export async function readBody<T>(request: FastifyRequest, schema: z.ZodType<T>, context: ServerContext): Promise<T> {
  return parseBody(await readJson(request, context), schema);
}

/** @throws OpenAIError naming the first field that is not as the schema has it */
export function parseBody<T>(body: unknown, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw schemaError(parsed.error);
  return parsed.data;
}

/** A request's body, whatever JSON it is. */
export async function readJson(request: FastifyRequest, context: ServerContext): Promise<unknown> {
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
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (error) {
    throw new OpenAIError(400, `the body is not valid JSON: ${(error as Error).message}`);
  }
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

/** The model whose tokenizer a request means: the one it names, or the one that generates, or the only one. */
export function tokenizerOf(hub: ModelHub, name: string | null | undefined): ServedModel {
  if (name !== undefined && name !== null && name !== '') return findModel(hub, name);
  return modelFor(hub, name, hub.models.length === 1 ? hub.models[0].task : 'generate');
}

export function findModel(hub: ModelHub, name: string): ServedModel {
  const model = hub.models.find((candidate) => candidate.name === name);
  if (model !== undefined) return model;
  const known = hub.models.map((candidate) => `'${candidate.name}'`).join(', ');
  const message = `the model '${name}' does not exist; loaded: ${known || 'none'}`;
  throw new OpenAIError(404, message, { param: 'model', code: 'model_not_found' });
}
