import { isIPv6 } from 'node:net';
import {
  Server,
  status,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerOptions,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { create, type Message } from '@bufbuild/protobuf';
import type { Access } from '../access/access.ts';
import type { ServerContext } from '../context.ts';
import { refuseRepositoryName } from '../triton/errors.ts';
import { grpcCredentials, type TlsOptions } from '../tls.ts';
import { inferenceDefinition, serviceDefinition } from './definition.ts';
import {
  grpcModelConfig,
  grpcModelMetadata,
  grpcModelStatistics,
  grpcRepositoryIndex,
  grpcServerMetadata,
  loadOverride,
  unloadsDependents,
} from './describe.ts';
import type { InferAnswer, StreamAnswer } from './encode-response.ts';
import { checkHealth, watchHealth } from './health.ts';
import { modelInfer, modelStreamInfer } from './infer.ts';
import { callId, logCall } from './log.ts';
import { Health, type HealthCheckRequest, type HealthCheckResponse } from './proto/health_pb.js';
import {
  GRPCInferenceService,
  ModelReadyResponseSchema,
  RepositoryModelLoadResponseSchema,
  RepositoryModelUnloadResponseSchema,
  ServerLiveResponseSchema,
  ServerReadyResponseSchema,
  type LogSettingsRequest,
  type ModelConfigRequest,
  type ModelInferRequest,
  type ModelMetadataRequest,
  type ModelReadyRequest,
  type ModelStatisticsRequest,
  type RepositoryIndexRequest,
  type RepositoryModelLoadRequest,
  type RepositoryModelUnloadRequest,
  type TraceSettingRequest,
} from './proto/inference_pb.js';
import { limitPieces } from './pieces.ts';
import { protectingInterceptor } from './protect.ts';
import { addReflection } from './reflection.ts';
import { releaseCall, releaseWhenClosed } from './release.ts';
import { logSettings, traceSetting } from './settings.ts';
import { sharedMemoryService } from './shared-memory.ts';
import { serviceError } from './status.ts';
import { watchStreams } from './streams.ts';

export interface RunningGrpcServer {
  readonly port: number;
  /** Refuse new calls, let running ones end, and cut those that last longer than `limitMs`. */
  close(limitMs: number): Promise<void>;
}

/** Where gRPC listens, and how it keeps its connections. Defaults are Triton's. */
export interface GrpcOptions {
  /** 0: any free one. */
  readonly port: number;
  /** Largest message in either direction, 2 GiB less one at most. */
  readonly maxMessageBytes?: number;
  /** Silence after which the server pings a client, in milliseconds. Default two hours. */
  readonly keepaliveTimeMs?: number;
  /** A ping that is not answered for so long ends the connection. Default 20,000. */
  readonly keepaliveTimeoutMs?: number;
  /** A connection without a call for so long is ended. Default: it stays. */
  readonly maxConnectionIdleMs?: number;
  /** A connection that has lasted so long takes no more calls. Default: it lasts. */
  readonly maxConnectionAgeMs?: number;
  /** Its last calls may take so long. Default: as long as they do. */
  readonly maxConnectionAgeGraceMs?: number;
}

const MOST_MESSAGE_BYTES = 2 ** 31 - 1;

function channelOptions(options: GrpcOptions): ServerOptions {
  const { maxMessageBytes = MOST_MESSAGE_BYTES, maxConnectionIdleMs: idle } = options;
  const { maxConnectionAgeMs: age, maxConnectionAgeGraceMs: grace } = options;
  return {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': MOST_MESSAGE_BYTES,
    // Nobody can ask for its records here, and each call pays for them.
    'grpc.enable_channelz': 0,
    'grpc.keepalive_time_ms': options.keepaliveTimeMs ?? 7_200_000,
    'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs ?? 20_000,
    ...(idle !== undefined && { 'grpc.max_connection_idle_ms': idle }),
    ...(age !== undefined && { 'grpc.max_connection_age_ms': age }),
    ...(grace !== undefined && { 'grpc.max_connection_age_grace_ms': grace }),
  };
}

/**
 * Serve a hub's models over KServe's gRPC protocol with Triton's extensions, and gRPC's services for health and
 * reflection.
 * @throws Error naming the address where it cannot be listened on
 */
export async function startGrpcServer(
  context: ServerContext,
  host: string,
  options: GrpcOptions,
  access: Access,
  tls: TlsOptions | undefined,
): Promise<RunningGrpcServer> {
  const interceptor = protectingInterceptor(access);
  const server = new Server({
    ...channelOptions(options),
    interceptors: interceptor === undefined ? [] : [interceptor],
  });
  server.addService(inferenceDefinition(), inferenceService(context));
  server.addService(serviceDefinition(Health), healthService(context));
  addReflection(server, [GRPCInferenceService, Health]);
  const addressOf = (port: number): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(addressOf(options.port), grpcCredentials(tls), (error, number) => {
      if (error) reject(error);
      else resolve(number);
    });
  });
  const unwatch = watchStreams(bound, (stream) => {
    limitPieces(stream);
    releaseWhenClosed(stream);
  });
  return {
    port: bound,
    close: (limitMs) =>
      new Promise((resolve) => {
        // Cuts what then goes on; `forceShutdown` knows of no connection without channelz, and `drain` of none that is
        // being closed already.
        server.drain(addressOf(bound), limitMs);
        server.tryShutdown(() => {
          unwatch();
          resolve();
        });
      }),
  };
}

function inferenceService(context: ServerContext): UntypedServiceImplementation {
  const { models } = context;
  const unary = <Request, Response = Message>(answer: Answer<Request, Response>) => unaryHandler(context, answer);
  return {
    ServerLive: unary(async () => create(ServerLiveResponseSchema, { live: true })),
    ServerReady: unary(async () => create(ServerReadyResponseSchema, { ready: await models.ready() })),
    // Clients ask before a model is there, and expect a plain no.
    ModelReady: unary<ModelReadyRequest>(async ({ request: { name, version: wanted } }) => {
      return create(ModelReadyResponseSchema, { ready: await models.isReady(name, wanted) });
    }),
    ServerMetadata: unary(async () => grpcServerMetadata(context)),
    ModelMetadata: unary<ModelMetadataRequest>(async ({ request }) =>
      grpcModelMetadata(models, request.name, request.version),
    ),
    ModelConfig: unary<ModelConfigRequest>(async ({ request }) =>
      grpcModelConfig(models.find(request.name, request.version)),
    ),
    ModelStatistics: unary<ModelStatisticsRequest>(async ({ request }) =>
      grpcModelStatistics(models.select(request.name, request.version)),
    ),
    ModelInfer: unary<ModelInferRequest, InferAnswer>((call) => modelInfer(context, call)),
    ModelStreamInfer: (call: ServerDuplexStream<ModelInferRequest, StreamAnswer>) => modelStreamInfer(context, call),
    RepositoryIndex: unary<RepositoryIndexRequest>(({ request }) => grpcRepositoryIndex(models, request)),
    RepositoryModelLoad: unary<RepositoryModelLoadRequest>(async ({ request }) => {
      if (request.repositoryName !== '') throw refuseRepositoryName();
      await models.load(request.modelName, loadOverride(request));
      return create(RepositoryModelLoadResponseSchema);
    }),
    RepositoryModelUnload: unary<RepositoryModelUnloadRequest>(async ({ request }) => {
      if (request.repositoryName !== '') throw refuseRepositoryName();
      await models.unload(request.modelName, unloadsDependents(request));
      return create(RepositoryModelUnloadResponseSchema);
    }),
    ...sharedMemoryService(context.regions, unary),
    TraceSetting: unary<TraceSettingRequest>(({ request }) => traceSetting(context, request)),
    LogSettings: unary<LogSettingsRequest>(({ request }) => logSettings(context, request)),
  };
}

function healthService(context: ServerContext): UntypedServiceImplementation {
  return {
    Check: unaryHandler(context, () => checkHealth(context)),
    Watch: (call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>) => void watchHealth(context, call),
  };
}

/** What a method answers: what its codec takes. */
type Answer<Request, Response = Message> = (call: ServerUnaryCall<Request, Response>) => Promise<Response>;

function unaryHandler<Request, Response = Message>(
  context: ServerContext,
  answer: Answer<Request, Response>,
): handleUnaryCall<Request, Response> {
  const respond = async (
    call: ServerUnaryCall<Request, Response>,
    callback: sendUnaryData<Response>,
  ): Promise<void> => {
    const { verbose } = context.log.settings;
    const begun = performance.now();
    // Most calls are never named.
    let requestId = verbose > 0 ? callId(call) : undefined;
    let response: Response | undefined;
    let failure: ServiceError | undefined;
    try {
      response = await answer(call);
    } catch (error) {
      requestId ??= callId(call);
      failure = serviceError(error, context, requestId);
    }
    callback(failure ?? null, response);
    if (verbose > 0) logCall(context, call, requestId ?? '', failure?.code ?? status.OK, begun);
    releaseCall(call);
  };
  return (call, callback) => void respond(call, callback);
}
