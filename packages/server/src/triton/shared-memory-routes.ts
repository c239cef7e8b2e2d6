import type { FastifyReply } from 'fastify';
import type { Endpoint } from '../http/endpoint.ts';
import { refuseSharedMemory } from './errors.ts';

/** Shared memory between client and server is refused; that there is none can be asked, as in Triton. */
export function sharedMemoryRoutes(
  serve: (method: 'GET' | 'POST', url: string, handler: Endpoint) => void,
  sendJson: (reply: FastifyReply, body: object) => FastifyReply,
): void {
  for (const kind of ['systemsharedmemory', 'cudasharedmemory']) {
    for (const region of ['', '/region/:region']) {
      serve('GET', `/v2/${kind}${region}/status`, async (_, reply) => sendJson(reply, []));
      serve('POST', `/v2/${kind}${region}/unregister`, () => Promise.reject(refuseSharedMemory()));
    }
    serve('POST', `/v2/${kind}/region/:region/register`, () => Promise.reject(refuseSharedMemory()));
  }
}
