import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ServerContext } from '../context.ts';
import type { Endpoint } from '../http/endpoint.ts';
import { printLogSettings, readLogChange, wrongJsonType } from '../logging/settings.ts';
import { readTraceChange } from '../trace/settings.ts';
import { invalid, malformed } from './errors.ts';
import { readObject } from './infer-request.ts';
import { JsonObject, type JsonValue } from './json.ts';
import type { TritonModels } from './models.ts';

/** The trace and logging extensions: settings that can be read, and changed while the server runs. */
export function settingsRoutes(
  { models, traces, log }: ServerContext,
  serve: (methods: readonly ('GET' | 'POST')[], url: string, handler: Endpoint) => void,
  sendJson: (reply: FastifyReply, body: object) => FastifyReply,
): void {
  for (const path of ['/v2/trace/setting', '/v2/models/:model/trace/setting']) {
    serve(['GET', 'POST'], path, async (request, reply) => {
      const { model } = request.params as { readonly model?: string };
      await checkTracedModel(models, model);
      if (request.method === 'POST') traces.update(model, readTraceChange(membersOf(request).map(textsOf)));
      return sendJson(reply, traces.print(model));
    });
  }
  serve(['GET', 'POST'], '/v2/logging', async (request, reply) => {
    if (request.method === 'POST') {
      log.settings = { ...log.settings, ...readLogChange(membersOf(request), wrongJsonType) };
    }
    return sendJson(reply, printLogSettings(log.settings));
  });
}

/** @throws TritonError where settings are asked of a model that does not answer */
export async function checkTracedModel(models: TritonModels, model: string | undefined): Promise<void> {
  if (model !== undefined && !(await models.isReady(model, undefined))) {
    throw invalid(`Request for unknown model : ${model}`);
  }
}

function membersOf({ body }: FastifyRequest): JsonObject['members'] {
  return Buffer.isBuffer(body) && body.length > 0 ? readObject(body).members : [];
}

function textsOf([name, value]: readonly [string, JsonValue]): [string, string[]] {
  if (value === null) return [name, []];
  if (name !== 'trace_level') return [name, [textOf(value)]];
  if (!Array.isArray(value)) throw malformed('attempt to access JSON non-array as array');
  return [name, value.map(textOf)];
}

function textOf(value: JsonValue): string {
  if (typeof value !== 'string') throw malformed('attempt to access JSON non-string as string');
  return value;
}
