import { isIPv6, type AddressInfo } from 'node:net';
import fastify, { LogController } from 'fastify';
import type { ModelHub } from '@rose/engine';
import type { ServerContext } from './context.ts';
import { startGrpcServer, type GrpcOptions, type RunningGrpcServer } from './grpc/server.ts';
import { Drain } from './http/drain.ts';
import { requestError } from './http/errors.ts';
import { httpRequestId } from './http/request-id.ts';
import { requestLog } from './http/request-log.ts';
import { ServerLog, type LogOptions } from './logging/log.ts';
import { cacheMetrics } from './metrics/cache.ts';
import { inferenceMetrics } from './metrics/inference.ts';
import { Metrics } from './metrics/metrics.ts';
import { observe, type ObserveModel } from './metrics/observe.ts';
import { machineMetrics } from './metrics/machine.ts';
import { metricsRoutes } from './metrics/routes.ts';
import { startMetricsServer, type MetricsOptions, type RunningMetricsServer } from './metrics/server.ts';
import { openaiError, sendOpenAIError } from './openai/errors.ts';
import { openaiNotFound, openaiRoutes } from './openai/routes.ts';
import { pageRoutes } from './page/routes.ts';
import { statusRoutes } from './status.ts';
import type { RepositoryOptions } from './repository/repository.ts';
import { SharedMemoryRegions } from './shared-memory/regions.ts';
import { Traces, type TraceOptions } from './trace/traces.ts';
import { TritonModels } from './triton/models.ts';
import { tritonNotFound, tritonRoutes } from './triton/routes.ts';

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
/** Triton's. */
const DEFAULT_METRICS_INTERVAL_MS = 2000;
const DEFAULT_CLOSE_MS = 10_000;
/** Long prompts of tracing headers and tokens; Node's default of 16 KiB is refused by some gateways' traffic. */
const HEADER_BYTES = 64 * 1024;

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
  const { version, sendTimeoutMs = DEFAULT_SEND_TIMEOUT_MS, metrics: metricsOptions = {} } = options;
  const observeOne: ObserveModel = (model, ...what) => observe(model, ...what, metrics);
  const models = new TritonModels(hub, observeOne);
  inferenceMetrics(metrics.registry, () => models.all);
  cacheMetrics(metrics.registry, () => models.cache);
  const endMachineMetrics = machineMetrics(metrics.registry, {
    intervalMs: DEFAULT_METRICS_INTERVAL_MS,
    ...metricsOptions,
  });
  const regions = new SharedMemoryRegions(options.allowClientSharedMemory ?? false);
  const common = { hub: models.hub, models, version, maxBodyBytes, sendTimeoutMs };
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
  const app = fastify({
    // Where it listens is told by whoever starts the server.
    loggerInstance: logger.child({}, { level: 'warn' }),
    genReqId: httpRequestId,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: maxBodyBytes,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // A large body or a long answer takes its time.
    connectionTimeout: 0,
    requestTimeout: 0,
    http: { maxHeaderSize: HEADER_BYTES, noDelay: true },
    // An address that is no address, such as `/%zz`: refused before any route is looked for.
    frameworkErrors: (error, request, reply) => {
      void sendOpenAIError(reply, openaiError(requestError(error, context, request.id)));
    },
  });
  // Clients keep connections in pools and reuse them hours later. (Fastify takes a 0 for its own default.)
  app.server.keepAliveTimeout = 0;
  // Comes when a connection is silent. That is nothing bad while the engine works or the client has no request; it is
  // when there is something to take.
  app.server.setTimeout(sendTimeoutMs, (socket) => {
    if (socket !== undefined && socket.writableLength > 0) socket.destroy();
  });
  const drain = new Drain(app);
  requestLog(app, log);
  await app.register(async (scope) => tritonRoutes(scope, context));
  await app.register(async (scope) => openaiRoutes(scope, context));
  if (metricsOptions.onHttp === true) await app.register(async (scope) => metricsRoutes(scope, metrics.registry));
  let metricsServer: RunningMetricsServer | undefined;
  await app.register(async (scope) => statusRoutes(scope, context, () => metricsServer?.port));
  await app.register(async (scope) => pageRoutes(scope));
  app.setErrorHandler((error, request, reply) =>
    sendOpenAIError(reply, openaiError(requestError(error, context, request.id))),
  );
  app.setNotFoundHandler((request, reply) =>
    request.url.startsWith('/v1') ? openaiNotFound(request, reply) : tritonNotFound(reply),
  );

  let grpc: RunningGrpcServer | undefined;
  try {
    if (options.grpc !== undefined) grpc = await startGrpcServer(context, options.host, options.grpc);
    if (metricsOptions.port !== undefined) {
      const { host = options.host, port } = metricsOptions;
      metricsServer = await startMetricsServer(metrics.registry, { host, port });
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
    url: `http://${host}:${port}`,
    port,
    grpcPort: grpc?.port,
    metricsPort: metricsServer?.port,
    repositoryModels: options.repository && models.repositoryVersions,
    close: async (limitMs = DEFAULT_CLOSE_MS) => {
      await Promise.all([drain.close(limitMs), grpc?.close(limitMs)]);
      endMachineMetrics();
      await metricsServer?.close();
      await models.close(0);
      regions.close();
      await traces.close();
    },
  };
}
