import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import type { Access } from '../access/access.ts';
import type { ServerContext } from '../context.ts';
import { answerAsterisk, createApp, type HttpLimits } from '../http/app.ts';
import { protect } from '../http/protect.ts';
import type { TlsOptions } from '../tls.ts';
import { TritonError } from '../triton/errors.ts';
import { sendTritonError, tritonNotFound } from '../triton/routes.ts';
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

interface Protection {
  readonly access: Access;
  readonly limits: HttpLimits;
  readonly tls: TlsOptions | undefined;
}

/** A port that answers /metrics and nothing else; its errors are those of HTTP's port. */
export async function startMetricsServer(
  context: ServerContext,
  registry: Registry,
  address: { readonly host: string; readonly port: number },
  { access, limits, tls }: Protection,
): Promise<RunningMetricsServer> {
  const app = createApp(context, limits, tls);
  app.setErrorHandler((error, _, reply) => sendTritonError(reply, error, context));
  answerAsterisk(app);
  protect(app, access, ({ status, message }) => new TritonError(status, message));
  metricsRoutes(app, registry);
  app.setNotFoundHandler((_, reply) => tritonNotFound(reply));
  await app.listen(address);
  const close = async (): Promise<void> => {
    const closed = app.close();
    app.server.closeAllConnections();
    await closed;
  };
  return { port: (app.server.address() as AddressInfo).port, close };
}
