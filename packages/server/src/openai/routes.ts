import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServedModel } from '@rose/engine';
import type { ServerContext } from '../context.ts';
import { takeRawBodies } from '../http/body.ts';
import { endpoint } from '../http/endpoint.ts';
import { requestError } from '../http/errors.ts';
import { chatCompletions } from './chat.ts';
import { completions } from './completions.ts';
import { embeddings } from './embeddings.ts';
import { OpenAIError, openaiError, sendOpenAIError } from './errors.ts';
import { findModel } from './request.ts';
import { rerank } from './rerank.ts';
import { detokenize, tokenize, tokenizerInfo } from './tokenize.ts';

type Action = (context: ServerContext, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

const ACTIONS: Readonly<Record<string, Action>> = {
  '/v1/chat/completions': chatCompletions,
  '/v1/completions': completions,
  '/v1/embeddings': embeddings,
  '/v1/rerank': rerank,
  '/rerank': rerank,
  '/tokenize': tokenize,
  '/detokenize': detokenize,
};

/** OpenAI's HTTP API under `/v1`, and beside it reranking and vLLM's tokenizer endpoints. */
export function openaiRoutes(app: FastifyInstance, context: ServerContext): void {
  const { hub } = context;
  takeRawBodies(app, context.maxBodyBytes);
  app.setErrorHandler((error, request, reply) => {
    const known = error instanceof OpenAIError ? error : requestError(error, context, request.id);
    return sendOpenAIError(reply, openaiError(known));
  });
  for (const [url, action] of Object.entries(ACTIONS)) {
    endpoint(app, 'POST', url, (request, reply) => action(context, request, reply), refuseMethod);
  }
  endpoint(app, 'GET', '/tokenizer_info', (request) => tokenizerInfo(context, request), refuseMethod);
  const list = async (): Promise<object> => ({ object: 'list', data: hub.models.map(describe) });
  endpoint(app, 'GET', '/v1/models', list, refuseMethod);
  // Names may hold slashes (ORG/NAME); clients write them encoded or as they are.
  const retrieve = async (request: FastifyRequest): Promise<object> =>
    describe(findModel(hub, (request.params as { '*': string })['*']));
  endpoint(app, 'GET', '/v1/models/*', retrieve, refuseMethod);
}

/** The reply to a path that nobody serves. */
export function openaiNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const message = `unknown path ${request.method} ${request.url}`;
  return sendOpenAIError(reply, new OpenAIError(404, message, { code: 'unknown_url' }));
}

function refuseMethod(reply: FastifyReply): FastifyReply {
  const message = `not allowed to ${reply.request.method} on ${reply.request.url}`;
  return sendOpenAIError(reply, new OpenAIError(405, message, { code: 'method_not_supported' }));
}

function describe({ name, loadedAt, task, spec }: ServedModel): object {
  return { id: name, object: 'model', created: loadedAt, owned_by: 'rose', task, max_model_len: spec.contextLength };
}
