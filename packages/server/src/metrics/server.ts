import type { AddressInfo } from 'node:net';
import fastify, { type FastifyServerOptions } from 'fastify';
import type { Registry } from 'prom-client';
import type { Access } from '../access/access.ts';
import { protect } from '../http/protect.ts';
import { httpTls, type TlsOptions } from '../tls.ts';
import type { MachineOptions } from './machine.ts';
import { metricsRoutes } from './routes.ts';

export interface MetricsOptions extends Partial<MachineOptions> {
  /** A port for /metrics alone; 0: any free one; undefined: none. */
  readonly port?: number;
  /** Where that port listens. Default: where HTTP does. */
  readonly host?: string;
  /** Serve /metrics on HTTP's port too. */
  readonly onHttp?: boolean;
}

export interface RunningMetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

/** A port that answers /metrics and nothing else. */
export async function startMetricsServer(
  registry: Registry,
  address: { readonly host: string; readonly port: number },
  access: Access,
  tls: TlsOptions | undefined,
): Promise<RunningMetricsServer> {
  const secure = tls && { https: httpTls(tls) };
  const app = fastify({ exposeHeadRoutes: false, forceCloseConnections: true, ...secure } as FastifyServerOptions);
  protect(app, access, ({ status, message }) => Object.assign(new Error(message), { statusCode: status }));
  metricsRoutes(app, registry);
  app.setNotFoundHandler((_, reply) => reply.code(404).type('text/plain; charset=utf-8').send('Not Found\n'));
  await app.listen(address);
  return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
}
