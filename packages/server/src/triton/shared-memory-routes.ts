import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Endpoint } from '../http/endpoint.ts';
import type { RegionStatus, SharedMemoryRegions } from '../shared-memory/regions.ts';
import { invalid, malformed } from './errors.ts';
import { readObject } from './infer-request.ts';
import { JsonObject } from './json.ts';

type Request = FastifyRequest<{ Params: { readonly region?: string } }>;

/** Regions of shared memory: their status may always be asked, registering is off unless the server allows it. */
export function sharedMemoryRoutes(
  regions: SharedMemoryRegions,
  serve: (method: 'GET' | 'POST', url: string, handler: Endpoint) => void,
  sendJson: (reply: FastifyReply, body: object) => FastifyReply,
): void {
  const each = (kind: string, action: string, handler: (request: Request, reply: FastifyReply) => unknown): void => {
    for (const region of ['', '/region/:region']) {
      const endpoint = async (request: unknown, reply: FastifyReply): Promise<unknown> =>
        handler(request as Request, reply);
      serve(action === 'status' ? 'GET' : 'POST', `/v2/${kind}sharedmemory${region}/${action}`, endpoint);
    }
  };
  const nameOf = ({ params }: Request): string => params.region ?? '';

  each('system', 'status', (request, reply) =>
    sendJson(
      reply,
      regions.status('system', nameOf(request)).map(({ name, key, offset, byte_size }: RegionStatus) => {
        return { name, key, offset, byte_size };
      }),
    ),
  );
  each('cuda', 'status', (request, reply) =>
    sendJson(
      reply,
      regions.status('CUDA', nameOf(request)).map(({ name, device_id, byte_size }: RegionStatus) => {
        return { name, device_id, byte_size };
      }),
    ),
  );
  each('system', 'register', (request, reply) => {
    regions.checkRegister('system', nameOf(request));
    const body = bodyOf(request);
    const key = required(body, 'key');
    if (typeof key !== 'string') throw malformed('attempt to access JSON non-string as string');
    const offset = unsigned(body.get('offset') ?? 0);
    regions.registerSystem(nameOf(request), key, offset, unsigned(required(body, 'byte_size')));
    return empty(reply);
  });
  each('cuda', 'register', async (request, reply) => {
    regions.checkRegister('CUDA', nameOf(request));
    const body = bodyOf(request);
    const handle = required(body, 'raw_handle');
    const text = handle instanceof JsonObject ? handle.get('b64') : undefined;
    if (typeof text !== 'string') throw malformed('attempt to access JSON non-string as string');
    const [bytes, device] = ['byte_size', 'device_id'].map((name) => unsigned(body.get(name)));
    await regions.registerCuda(nameOf(request), Buffer.from(text, 'base64'), device, bytes);
    return empty(reply);
  });
  each('system', 'unregister', (request, reply) => {
    regions.unregister('system', nameOf(request));
    return empty(reply);
  });
  each('cuda', 'unregister', (request, reply) => {
    regions.unregister('CUDA', nameOf(request));
    return empty(reply);
  });
}

function bodyOf({ body }: Request): JsonObject {
  return Buffer.isBuffer(body) && body.length > 0 ? readObject(body) : new JsonObject();
}

function required(body: JsonObject, field: string): unknown {
  const value = body.get(field);
  if (value === undefined) throw invalid(`Shared memory register request has no '${field}' field`);
  return value;
}

function unsigned(value: unknown): bigint {
  const integer = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  if (integer && value >= 0) return BigInt(value);
  throw malformed('attempt to access JSON non-unsigned-integer as unsigned-integer');
}

function empty(reply: FastifyReply): FastifyReply {
  return reply.type('application/json').send(Buffer.alloc(0));
}
