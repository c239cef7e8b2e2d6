import type { FastifyInstance } from 'fastify';
import type { ServerLog } from '../logging/log.ts';
import { REQUEST_ID } from './request-id.ts';

/** A line of each request, while the log is verbose; and a client that names its request gets the name back. */
export function requestLog(app: FastifyInstance, log: ServerLog): void {
  app.addHook('onRequest', (request, reply, done) => {
    // On Node's own reply, which some write themselves.
    if (request.headers[REQUEST_ID] === request.id) reply.raw.setHeader(REQUEST_ID, request.id);
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    if (log.settings.verbose > 0) {
      const { id: requestId, method, url } = request;
      const ms = Math.round(reply.elapsedTime * 1000) / 1000;
      log.logger.debug({ requestId, method, url, status: reply.statusCode, ms }, 'HTTP request');
    }
    done();
  });
}
