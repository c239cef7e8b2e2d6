import type { FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import { endpoint } from '../http/endpoint.ts';
import { tritonMethodNotAllowed } from '../triton/routes.ts';

/** GET /metrics, in Prometheus' text format. */
export function metricsRoutes(app: FastifyInstance, registry: Registry): void {
  // Nobody reads bodies here: the method is refused, not what one consists of.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, body, done) => {
    body.resume();
    done(null);
  });
  for (const url of ['/metrics', '/metrics/']) {
    endpoint(
      app,
      'GET',
      url,
      async (_, reply) => reply.type('text/plain; charset=utf-8').send(await registry.metrics()),
      tritonMethodNotAllowed,
    );
  }
}
