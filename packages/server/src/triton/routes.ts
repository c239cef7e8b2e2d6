import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RoseError } from '@rose/engine';
import type { ServerContext } from '../context.ts';
import { abortOnClose } from '../http/abort.ts';
import { REQUEST_ID } from '../http/request-id.ts';
import { sendRetryAfter } from '../http/retry.ts';
import { tenantOf } from '../http/tenant.ts';
import { takeRawBodies } from '../http/body.ts';
import { endpoint, type Endpoint, type PathParameters } from '../http/endpoint.ts';
import { requestError } from '../http/errors.ts';
import { sendEvents } from '../http/event-stream.ts';
import { invalid, tritonErrorBody, TritonError, tritonStatus } from './errors.ts';
import { readGenerateBody } from './generate-request.ts';
import { infer, leaveBodies } from './infer-route.ts';
import { KnownHeads } from './known-heads.ts';
import { modelMetadata, serverMetadata } from './metadata.ts';
import type { ModelResponse, TritonModel } from './model.ts';
import { takeParameters } from './parameters.ts';
import { repositoryRoutes } from './repository-routes.ts';
import { settingsRoutes } from './settings-routes.ts';
import { sharedMemoryRoutes } from './shared-memory-routes.ts';
import { generateResponse } from './respond.ts';
import { byName } from './tensor.ts';
import { modelStatistics } from '../statistics/describe.ts';
import { traceOf } from '../trace/http.ts';
import { runModel } from '../trace/run.ts';
import type { TritonModels } from './models.ts';
import { checkRequest } from './validate.ts';

type Methods = 'GET' | 'POST' | readonly ('GET' | 'POST')[];
type Serve = (method: Methods, url: string, handler: Endpoint, on?: FastifyInstance) => void;
type Request = FastifyRequest<{ Params: PathParameters }>;

/** NVIDIA Triton's HTTP protocol (KServe v2 with Triton's extensions) under `/v2`. */
export function tritonRoutes(app: FastifyInstance, context: ServerContext): void {
  const { models } = context;
  takeRawBodies(app, context.maxBodyBytes);
  app.setErrorHandler((error, _, reply) => sendTritonError(reply, error, context));

  const serve: Serve = (method, url, handler, on = app) => endpoint(on, method, url, handler, tritonMethodNotAllowed);
  const serveModel = (method: 'GET' | 'POST', action: string, handler: ModelEndpoint, on?: FastifyInstance): void => {
    for (const version of ['', '/versions/:version(^\\d+$)']) {
      const each: Endpoint = async (request, reply) =>
        handler(models.find(request.params.model, request.params.version), request, reply);
      serve(method, `/v2/models/:model${version}${action}`, each, on);
    }
  };

  serve('GET', '/v2', async (_, reply) => sendJson(reply, serverMetadata(context)));
  serve('GET', '/v2/health/live', async (_, reply) => sendJson(reply, { live: true }));
  serve('GET', '/v2/health/ready', async (_, reply) => {
    const ready = await models.ready();
    return sendJson(reply.code(ready ? 200 : 400), { ready });
  });
  serveModel('GET', '', async (model, { params }, reply) =>
    sendJson(reply, modelMetadata(model, models.versions(params.model, params.version))),
  );
  serveModel('GET', '/config', async (model, _, reply) => sendJson(reply, model.config()));
  for (const version of ['', '/versions/:version(^\\d+$)']) {
    serve('GET', `/v2/models/:model${version}/ready`, async ({ params: { model, version } }, reply) => {
      if (!(await models.isReady(model, version))) throw notReady(models, model, version);
      return sendJson(reply, { name: model, ready: true });
    });
    serve('GET', `/v2/models/:model${version}/stats`, async ({ params: { model, version } }, reply) =>
      sendJson(reply, { model_stats: models.select(model, version).map(modelStatistics) }),
    );
  }
  serve('GET', '/v2/models/stats', async (_, reply) =>
    sendJson(reply, { model_stats: models.all.map(modelStatistics) }),
  );
  void app.register(async (scope) => {
    leaveBodies(scope);
    const knownHeads = new KnownHeads();
    serveModel('POST', '/infer', (model, request, reply) => infer(context, knownHeads, model, request, reply), scope);
  });
  serveModel('POST', '/generate', (model, request, reply) => generate(context, model, request, reply));
  // What changes the server itself.
  void app.register(async (scope) => {
    context.origins.guard(scope, (message) => new TritonError(403, message));
    const guarded: Serve = (method, url, handler) => serve(method, url, handler, scope);
    repositoryRoutes(models, guarded, sendJson);
    settingsRoutes(context, guarded, sendJson);
    sharedMemoryRoutes(context.regions, guarded, sendJson);
  });
  serveModel('POST', '/generate_stream', (model, request, reply) => generateStream(context, model, request, reply));
}

/** The reply to a path that nobody serves. */
export function tritonNotFound(reply: FastifyReply): FastifyReply {
  return sendJson(reply.code(404), { error: 'Not Found' });
}

/** The reply to a method that a path does not have. */
export function tritonMethodNotAllowed(reply: FastifyReply): FastifyReply {
  return sendJson(reply.code(405), { error: 'Method Not Allowed' });
}

type ModelEndpoint = (model: TritonModel, request: Request, reply: FastifyReply) => Promise<unknown>;

async function generate(
  context: ServerContext,
  model: TritonModel,
  request: Request,
  reply: FastifyReply,
): Promise<unknown> {
  const { id, responses } = startGenerate(context, model, request, reply);
  let only: ModelResponse | undefined;
  for await (const response of responses) {
    // Leaving the loop also cancels what is still to come.
    if (only !== undefined) throw notOneResponse();
    only = response;
  }
  if (only === undefined) throw notOneResponse();
  return reply.type('application/json').send(Buffer.from(generateResponse(model, id, only)));
}

async function generateStream(
  context: ServerContext,
  model: TritonModel,
  request: Request,
  reply: FastifyReply,
): Promise<unknown> {
  const { id, responses, signal } = startGenerate(context, model, request, reply);
  await sendEvents(reply, responses, {
    contentType: 'text/event-stream; charset=utf-8',
    signal,
    print: (response) => generateResponse(model, id, response),
    onError: (error) =>
      tritonErrorBody(error instanceof TritonError ? error : requestError(error, context, request.id)),
  });
  return reply;
}

function startGenerate(
  context: ServerContext,
  model: TritonModel,
  request: Request,
  reply: FastifyReply,
): { id: string; responses: AsyncIterable<ModelResponse>; signal: AbortSignal } {
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    throw invalid("Unsupported content-encoding, only 'identity' is supported.");
  }
  const signal = abortOnClose(request);
  const trace = traceOf(context, model, reply);
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const { id, inputs, parameters } = readGenerateBody(body, model, context.maxBodyBytes);
  checkRequest(model, inputs, undefined, id);
  const { custom, timeoutMs, priority, sequence } = takeParameters(parameters);
  const tenant = tenantOf(request);
  const parts = { id, inputs: byName(inputs), outputs: undefined, parameters: custom };
  const responses = runModel(model, { ...parts, timeoutMs, priority, sequence, signal, tenant, trace });
  return { id, responses, signal };
}

function notOneResponse(): TritonError {
  return invalid(
    'generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses',
  );
}

/** Why a model cannot answer: that it does not exist is another status than that it is not ready. */
function notReady(models: TritonModels, name: string, version: string | undefined): Error {
  if (models.has(name, version)) return invalid('Model version not ready');
  const which = version === undefined ? `'${name}'` : `'${name}' version ${BigInt(version)}`;
  return new RoseError('not_found', `Request for unknown model: ${which} is not found`);
}

/** As bytes, so that no charset is added to the content type: Triton's clients compare it. */
function sendJson(reply: FastifyReply, body: object): FastifyReply {
  return reply.type('application/json').send(Buffer.from(JSON.stringify(body)));
}

export function sendTritonError(reply: FastifyReply, error: unknown, context: ServerContext): FastifyReply {
  const known = error instanceof TritonError ? error : requestError(error, context, reply.request.id);
  const status = tritonStatus(known);
  if (known instanceof RoseError) sendRetryAfter(reply, known);
  reply.header(REQUEST_ID, reply.request.id);
  if (status === 501) reply.header('accept-encoding', 'gzip, deflate');
  return reply
    .code(status)
    .type('application/json')
    .send(Buffer.from(tritonErrorBody(known)));
}
