import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Endpoint } from '../http/endpoint.ts';
import { NO_OVERRIDE, readOverride, readUnload, type LoadOverride } from '../repository/override.ts';
import { invalid, refuseRepositoryName } from './errors.ts';
import { readObject } from './infer-request.ts';
import { JsonObject, type JsonValue } from './json.ts';
import type { TritonModels } from './models.ts';

/** The model repository extension: what there is, loading and unloading. */
export function repositoryRoutes(
  models: TritonModels,
  serve: (method: 'POST', url: string, handler: Endpoint) => void,
  sendJson: (reply: FastifyReply, body: object) => FastifyReply,
): void {
  serve('POST', '/v2/repository/index', async (request, reply) =>
    sendJson(reply, await models.index(readyOnly(bodyOf(request)))),
  );
  serve('POST', '/v2/repository/models/:model/load', async (request, reply) => {
    await models.load(request.params.model, loadOverride(bodyOf(request)));
    return reply.send();
  });
  serve('POST', '/v2/repository/models/:model/unload', async (request, reply) => {
    await models.unload(request.params.model, unloadsDependents(bodyOf(request)));
    return reply.send();
  });
  for (const path of ['index', 'models/:model/load', 'models/:model/unload']) {
    serve('POST', `/v2/repository/:repository/${path}`, async () => {
      throw refuseRepositoryName();
    });
  }
}

function bodyOf({ body }: FastifyRequest): JsonObject {
  return Buffer.isBuffer(body) && body.length > 0 ? readObject(body) : new JsonObject();
}

function readyOnly(body: JsonObject): boolean {
  const ready = body.get('ready') ?? false;
  if (typeof ready !== 'boolean') throw invalid("Invalid value for 'ready': expected a boolean");
  return ready;
}

/** Files come as base64, the configuration as text. */
function loadOverride(body: JsonObject): LoadOverride {
  const parameters = parametersOf(body);
  if (parameters.length === 0) return NO_OVERRIDE;
  return readOverride(
    parameters.map(([name, value]) => [name, name.startsWith('file:') ? decode(name, value) : value]),
  );
}

function decode(name: string, value: JsonValue): unknown {
  if (typeof value !== 'string') return value;
  if (!/^[A-Za-z\d+/\s]*={0,2}\s*$/.test(value)) throw invalid(`the value of parameter '${name}' is not base64`);
  return Buffer.from(value, 'base64');
}

function unloadsDependents(body: JsonObject): boolean {
  return readUnload(parametersOf(body));
}

function parametersOf(body: JsonObject): JsonObject['members'] {
  const parameters = body.get('parameters') ?? new JsonObject();
  if (parameters instanceof JsonObject) return parameters.members;
  throw invalid("Invalid value for 'parameters': expected an object");
}
