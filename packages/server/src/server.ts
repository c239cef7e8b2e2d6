import { isIPv6, type AddressInfo } from 'node:net';
import type { ModelHub } from '@rose/engine';
import { Access, type AccessOptions } from './access/access.ts';
import type { ServerContext } from './context.ts';
import { startGrpcServer, type GrpcOptions, type RunningGrpcServer } from './grpc/server.ts';
import { Drain } from './http/drain.ts';
import { answerAsterisk, createApp } from './http/app.ts';
import { Origins } from './http/cors.ts';
import { requestError } from './http/errors.ts';
import { protect, type Refusal } from './http/protect.ts';
import { requestLog } from './http/request-log.ts';
import { ServerLog, type LogOptions } from './logging/log.ts';
import { cacheMetrics } from './metrics/cache.ts';
import { inferenceMetrics } from './metrics/inference.ts';
import { Metrics } from './metrics/metrics.ts';
import { observe, type ObserveModel } from './metrics/observe.ts';
import { machineMetrics } from './metrics/machine.ts';
import { metricsRoutes } from './metrics/routes.ts';
import { startMetricsServer, type MetricsOptions, type RunningMetricsServer } from './metrics/server.ts';
import { OpenAIError, openaiError, sendOpenAIError } from './openai/errors.ts';
import { openaiNotFound, openaiRoutes } from './openai/routes.ts';
import { pageRoutes } from './page/routes.ts';
import { statusRoutes } from './status.ts';
import type { RepositoryOptions } from './repository/options.ts';
import { SharedMemoryRegions } from './shared-memory/regions.ts';
import { checkTls, type TlsOptions } from './tls.ts';
import { Traces, type TraceOptions } from './trace/traces.ts';
import { TritonError } from './triton/errors.ts';
import { TritonModels } from './triton/models.ts';
import { sendTritonError, tritonNotFound, tritonRoutes } from './triton/routes.ts';

export interface ServerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Also serve Triton's gRPC protocol. */
  readonly grpc?: GrpcOptions;
  /** Where metrics are served. Default: nowhere. */
  readonly metrics?: MetricsOptions;
  /** Rose's version. */
  readonly version: string;
  /** Largest body of a request, and largest tensor that one may declare. Default 64 MiB. */
  readonly maxBodyBytes?: number;
  /**
   * A client that takes nothing of what it is sent for so many milliseconds is cut off, and its request cancelled.
   * Default 60,000.
   */
  readonly sendTimeoutMs?: number;
  /**
   * Whether clients may name shared memory of this machine for the server to read and write. Default false: a client could
   * name memory of other programs.
   */
  readonly allowClientSharedMemory?: boolean;
  /** A request that has not come completely after so many milliseconds is refused. Default 300,000. */
  readonly receiveTimeoutMs?: number;
  /** Who may ask for what. Default: everybody for everything. */
  readonly access?: AccessOptions;
  /**
   * Origins of pages that may call the HTTP port from a browser: `scheme://host[:port]`, or `*` for all. Default: only the
   * page that the server itself serves.
   */
  readonly corsOrigins?: readonly string[];
  /** Serve all ports over TLS. */
  readonly tls?: TlsOptions;
  /** Directories of models to serve over Triton's protocols beside those of the hub. */
  readonly repository?: RepositoryOptions;
  /** What is logged, and where. Default: information, warnings and faults of Rose, on stderr. */
  readonly log?: LogOptions;
  /** Which requests are traced at the start. Default: none. */
  readonly trace?: TraceOptions;
}

export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** Of gRPC, if that is served. */
  readonly grpcPort: number | undefined;
  /** Of /metrics alone, if that is served. */
  readonly metricsPort: number | undefined;
  /** What the repository served at the start, as `NAME/VERSION`; undefined: there is no repository. */
  readonly repositoryModels: readonly string[] | undefined;
  /**
   * Refuse new requests, let running responses end, and cut those that last longer.
   * @param limitMs how long they may take; default 10 seconds
   */
  close(limitMs?: number): Promise<void>;
}

const DEFAULT_BODY_BYTES = 64 * 1024 * 1024;
const DEFAULT_SEND_TIMEOUT_MS = 60_000;
const DEFAULT_RECEIVE_TIMEOUT_MS = 300_000;
/** Triton's. */
const DEFAULT_METRICS_INTERVAL_MS = 2000;
const DEFAULT_CLOSE_MS = 10_000;

/**
 * Serve a hub's models over HTTP (Triton under `/v2`, OpenAI under `/v1`, metrics, and the page at `/`) and gRPC.
 * @throws the system's error (`EADDRINUSE`, `EACCES`...) when the address cannot be listened on; RoseError when the
 *   repository cannot be opened
 */
export async function startServer(hub: ModelHub, options: ServerOptions): Promise<RunningServer> {
  const log = new ServerLog(options.log ?? {});
  const { logger } = log;
  const traces = new Traces(options.trace ?? {}, (error) => logger.error(error, 'cannot write a trace'));
  const maxBodyBytes = options.maxBodyBytes ?? DEFAULT_BODY_BYTES;
  const metrics = new Metrics(hub);
  const { version, metrics: metricsOptions = {} } = options;
  const { sendTimeoutMs = DEFAULT_SEND_TIMEOUT_MS, receiveTimeoutMs = DEFAULT_RECEIVE_TIMEOUT_MS } = options;
  const observeOne: ObserveModel = (model, ...what) => observe(model, ...what, metrics);
  const models = new TritonModels(hub, observeOne);
  inferenceMetrics(metrics.registry, () => models.all);
  cacheMetrics(metrics.registry, () => models.cache);
  const endMachineMetrics = machineMetrics(metrics.registry, {
    intervalMs: DEFAULT_METRICS_INTERVAL_MS,
    ...metricsOptions,
  });
  const regions = new SharedMemoryRegions(options.allowClientSharedMemory ?? false);
  const origins = new Origins(options.corsOrigins ?? [], options.host);
  const limits = { receiveTimeoutMs, sendTimeoutMs };
  const common = { hub: models.hub, models, version, maxBodyBytes, ...limits, origins };
  const context: ServerContext = { ...common, log, traces, regions };
  if (options.repository !== undefined) {
    // What is loaded at the start is told when the server runs.
    let opened = false;
    await models.openRepository(options.repository, {
      warn: (message) => logger.warn(message),
      info: (message) => {
        if (opened) logger.info(message);
      },
    });
    opened = true;
  }
  const { tls } = options;
  if (tls !== undefined) checkTls(tls);
  const { apiKeys = [], httpRestrictions = [], grpcRestrictions = [] } = options.access ?? {};
  const access = new Access(apiKeys, httpRestrictions, '');
  const grpcAccess = new Access(apiKeys, grpcRestrictions, 'triton-grpc-protocol-');
  const app = createApp(context, limits, tls);
  origins.serve(app);
  const drain = new Drain(app);
  requestLog(app, log);
  app.setErrorHandler((error, request, reply) => {
    // The same form as that of paths that nobody serves.
    if (!(error instanceof OpenAIError) && !request.url.startsWith('/v1'))
      return sendTritonError(reply, error, context);
    const known = error instanceof OpenAIError ? error : requestError(error, context, request.id);
    return sendOpenAIError(reply, openaiError(known));
  });
  await app.register(async (scope) => {
    protect(scope, access, ({ status, message }) => new TritonError(status, message));
    tritonRoutes(scope, context);
  });
  const openaiRefusal = ({ status, message }: Refusal): OpenAIError =>
    new OpenAIError(status, message, { code: status === 401 ? 'invalid_api_key' : 'restricted' });
  await app.register(async (scope) => {
    protect(scope, access, openaiRefusal);
    openaiRoutes(scope, context);
  });
  let metricsServer: RunningMetricsServer | undefined;
  await app.register(async (scope) => {
    protect(scope, access, openaiRefusal);
    if (metricsOptions.onHttp === true) metricsRoutes(scope, metrics.registry);
    statusRoutes(scope, context, () => metricsServer?.port);
  });
  await app.register(async (scope) => {
    answerAsterisk(scope);
    pageRoutes(scope);
  });
  app.setNotFoundHandler((request, reply) =>
    request.url.startsWith('/v1') ? openaiNotFound(request, reply) : tritonNotFound(reply),
  );

  let grpc: RunningGrpcServer | undefined;
  try {
    if (options.grpc !== undefined) grpc = await startGrpcServer(context, options.host, options.grpc, grpcAccess, tls);
    if (metricsOptions.port !== undefined) {
      const { host = options.host, port } = metricsOptions;
      metricsServer = await startMetricsServer(context, metrics.registry, { host, port }, { access, limits, tls });
    }
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    endMachineMetrics();
    await metricsServer?.close();
    await grpc?.close(0);
    await models.close(0);
    throw error;
  }
  const { port } = app.server.address() as AddressInfo;
  const host = isIPv6(options.host) ? `[${options.host}]` : options.host;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${host}:${port}`,
    port,
    grpcPort: grpc?.port,
    metricsPort: metricsServer?.port,
    repositoryModels: options.repository && models.repositoryVersions,
    close: async (limitMs = DEFAULT_CLOSE_MS) => {
      // Requests are waited for; a load may never end.
      models.stopLoading();
      await Promise.all([drain.close(limitMs), grpc?.close(limitMs)]);
      endMachineMetrics();
      await metricsServer?.close();
      await models.close(0);
      regions.close();
      await traces.close();
    },
  };
}
