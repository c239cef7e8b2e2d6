import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import {
  Server,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerOptions,
  type ServerUnaryCall,
  type ServerWritableStream,
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
import type { StreamAnswer } from './encode-response.ts';
import { checkHealth, watchHealth } from './health.ts';
import { modelInfer, modelStreamInfer } from './infer.ts';
import { readMetadata } from './header.ts';
import { loggedCall } from './log.ts';
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
import type { CallError } from './status.ts';
import { endIdle, serversBehind, takeStreams } from './streams.ts';
import { MOST_MESSAGE_BYTES, serveUnary } from './unary-call.ts';

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

function channelOptions(options: GrpcOptions): ServerOptions {
  const { maxMessageBytes = MOST_MESSAGE_BYTES } = options;
  const { maxConnectionAgeMs: age, maxConnectionAgeGraceMs: grace } = options;
  return {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': MOST_MESSAGE_BYTES,
    // Nobody can ask for its records here, and each call pays for them.
    'grpc.enable_channelz': 0,
    'grpc.keepalive_time_ms': options.keepaliveTimeMs ?? 7_200_000,
    'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs ?? 20_000,
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
  const { port, servers } = await serversBehind(
    () =>
      new Promise((resolve, reject) => {
        server.bindAsync(addressOf(options.port), grpcCredentials(tls), (error, number) => {
          if (error) reject(error);
          else resolve(number);
        });
      }),
  );
  assert(servers.length > 0, 'the servers of gRPC are found');
  const infer = modelInfer(context, access, options.maxMessageBytes ?? MOST_MESSAGE_BYTES);
  for (const one of servers) {
    takeStreams(one, (stream, headers) => {
      if (headers[':path'] === infer.path && headers['content-type']?.startsWith('application/grpc') === true) {
        serveUnary(stream, headers, infer);
        return true;
      }
      limitPieces(stream);
      releaseWhenClosed(stream);
      return false;
    });
    if (options.maxConnectionIdleMs !== undefined) endIdle(one, options.maxConnectionIdleMs);
  }
  return {
    port,
    close: (limitMs) =>
      new Promise((resolve) => {
        // Cuts what then goes on; `forceShutdown` knows of no connection without channelz, and `drain` of none that is
        // being closed already.
        server.drain(addressOf(port), limitMs);
        server.tryShutdown(() => resolve());
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
    let response: Response | undefined;
    let failure: CallError | undefined;
    try {
      response = await loggedCall(context, call.getPath(), readMetadata(call.metadata), () => answer(call));
    } catch (error) {
      failure = error as CallError;
    }
    callback(failure ?? null, response);
    releaseCall(call);
  };
  return (call, callback) => void respond(call, callback);
}
