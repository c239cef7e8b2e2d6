import type { FastifyInstance } from 'fastify';
import { endpoint } from '../http/endpoint.ts';
import { refuseMethod } from '../http/plain.ts';
import type { Metrics } from './metrics.ts';

/** GET /metrics, in Prometheus' text format. */
export function metricsRoutes(app: FastifyInstance, metrics: Metrics): void {
  for (const url of ['/metrics', '/metrics/']) {
    endpoint(
      app,
      'GET',
      url,
      async (_, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
      refuseMethod,
    );
  }
}
