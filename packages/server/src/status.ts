import type { FastifyInstance } from 'fastify';
import type { ServedModel } from '@rose/engine';
import type { ServerContext } from './context.ts';
import { endpoint } from './http/endpoint.ts';
import { refuseMethod } from './http/plain.ts';

/**
 * GET /rose/status: what the page shows of the server, a JSON object small enough to poll.
 * @param metricsPort of the port that serves /metrics alone, if there is one
 */
export function statusRoutes(
  app: FastifyInstance,
  { hub, version }: ServerContext,
  metricsPort: () => number | undefined,
): void {
  const started = Date.now();
  const status = async (): Promise<object> => ({
    version,
    device: hub.stats.device,
    uptimeSeconds: Math.floor((Date.now() - started) / 1000),
    ready: await hub.ready(),
    metricsPort: metricsPort() ?? null,
    models: hub.models.map(describe),
  });
  endpoint(
    app,
    'GET',
    '/rose/status',
    async (_, reply) => reply.header('cache-control', 'no-store').send(await status()),
    refuseMethod,
  );
}

function describe(model: ServedModel): object {
  const { name, task, loadedAt, memory, counters } = model;
  const { architecture, contextLength, blocks, hiddenSize, head } = model.spec;
  return {
    name,
    task,
    architecture,
    contextLength,
    layers: blocks.length,
    hiddenSize,
    labels: head.kind === 'classifier' ? head.labels : [],
    loadedAt,
    memory,
    counters,
  };
}
