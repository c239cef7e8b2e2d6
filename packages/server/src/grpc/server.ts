import { isIPv6 } from 'node:net';
import {
  Server,
  ServerCredentials,
  type handleUnaryCall,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { create, type Message } from '@bufbuild/protobuf';
import type { ServerContext } from '../context.ts';
import { refuseRepositoryName, refuseSharedMemory, TritonError } from '../triton/errors.ts';
import { serviceDefinition } from './definition.ts';
import {
  grpcModelConfig,
  grpcModelMetadata,
  grpcModelStatistics,
  grpcRepositoryIndex,
  grpcServerMetadata,
  loadOverride,
  unloadsDependents,
} from './describe.ts';
import { checkHealth, watchHealth } from './health.ts';
import { modelInfer, modelStreamInfer } from './infer.ts';
import { Health, type HealthCheckRequest, type HealthCheckResponse } from './proto/health_pb.js';
import {
  CudaSharedMemoryStatusResponseSchema,
  GRPCInferenceService,
  ModelReadyResponseSchema,
  RepositoryModelLoadResponseSchema,
  RepositoryModelUnloadResponseSchema,
  ServerLiveResponseSchema,
  ServerReadyResponseSchema,
  SystemSharedMemoryStatusResponseSchema,
  type ModelConfigRequest,
  type ModelInferRequest,
  type ModelInferResponse,
  type ModelMetadataRequest,
  type ModelReadyRequest,
  type ModelStatisticsRequest,
  type ModelStreamInferResponse,
  type RepositoryIndexRequest,
  type RepositoryModelLoadRequest,
  type RepositoryModelUnloadRequest,
} from './proto/inference_pb.js';
import { serviceError } from './status.ts';

export interface RunningGrpcServer {
  readonly port: number;
  /** Refuse new calls, let running ones end, and cut those that last longer than `limitMs`. */
  close(limitMs: number): Promise<void>;
}

/** Triton's limits: messages of up to 2 GiB, and clients may ping every five minutes. */
const OPTIONS = {
  'grpc.max_receive_message_length': 2 ** 31 - 1,
  'grpc.max_send_message_length': 2 ** 31 - 1,
  'grpc.keepalive_time_ms': 7_200_000,
  'grpc.keepalive_timeout_ms': 20_000,
} as const;

/**
 * Serve a hub's models over KServe's gRPC protocol with Triton's extensions, and gRPC's health service.
 * @param port 0: any free one
 * @throws Error naming the address where it cannot be listened on
 */
export async function startGrpcServer(
  context: ServerContext,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<RunningGrpcServer> {
  const server = new Server(OPTIONS);
  server.addService(serviceDefinition(GRPCInferenceService), inferenceService(context));
  server.addService(serviceDefinition(Health), healthService(context));
  const address = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, number) => {
      if (error) reject(error);
      else resolve(number);
    });
  });
  return {
    port: bound,
    close: (limitMs) =>
      new Promise((resolve) => {
        const limit = setTimeout(() => server.forceShutdown(), limitMs);
        server.tryShutdown(() => {
          clearTimeout(limit);
          resolve();
        });
      }),
  };
}

function inferenceService(context: ServerContext): UntypedServiceImplementation {
  const { models, version } = context;
  const unary = <Request>(answer: Answer<Request>) => unaryHandler(context, answer);
  return {
    ServerLive: unary(async () => create(ServerLiveResponseSchema, { live: true })),
    ServerReady: unary(async () => create(ServerReadyResponseSchema, { ready: await models.ready() })),
    // Clients ask before a model is there, and expect a plain no.
    ModelReady: unary<ModelReadyRequest>(async ({ request: { name, version: wanted } }) => {
      return create(ModelReadyResponseSchema, { ready: await models.isReady(name, wanted) });
    }),
    ServerMetadata: unary(async () => grpcServerMetadata(version)),
    ModelMetadata: unary<ModelMetadataRequest>(async ({ request }) =>
      grpcModelMetadata(models, request.name, request.version),
    ),
    ModelConfig: unary<ModelConfigRequest>(async ({ request }) =>
      grpcModelConfig(models.find(request.name, request.version)),
    ),
    ModelStatistics: unary<ModelStatisticsRequest>(async ({ request }) =>
      grpcModelStatistics(models.select(request.name, request.version)),
    ),
    ModelInfer: unary<ModelInferRequest>((call) =>
      modelInfer(models, call as ServerUnaryCall<ModelInferRequest, ModelInferResponse>),
    ),
    ModelStreamInfer: (call: ServerDuplexStream<ModelInferRequest, ModelStreamInferResponse>) =>
      modelStreamInfer(context, models, call),
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
    SystemSharedMemoryStatus: unary(async () => create(SystemSharedMemoryStatusResponseSchema)),
    SystemSharedMemoryRegister: unaryHandler(context, () => Promise.reject(refuseSharedMemory())),
    SystemSharedMemoryUnregister: unaryHandler(context, () => Promise.reject(refuseSharedMemory())),
    CudaSharedMemoryStatus: unary(async () => create(CudaSharedMemoryStatusResponseSchema)),
    CudaSharedMemoryRegister: unaryHandler(context, () => Promise.reject(refuseSharedMemory())),
    CudaSharedMemoryUnregister: unaryHandler(context, () => Promise.reject(refuseSharedMemory())),
    TraceSetting: refused(context, 'the trace extension is not supported'),
    LogSettings: refused(context, 'the logging extension is not supported'),
  };
}

function healthService(context: ServerContext): UntypedServiceImplementation {
  return {
    Check: unaryHandler(context, () => checkHealth(context)),
    Watch: (call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>) => void watchHealth(context, call),
  };
}

type Answer<Request> = (call: ServerUnaryCall<Request, Message>) => Promise<Message>;

function unaryHandler<Request>(context: ServerContext, answer: Answer<Request>): handleUnaryCall<Request, Message> {
  const respond = async (call: ServerUnaryCall<Request, Message>, callback: sendUnaryData<Message>): Promise<void> => {
    let response: Message;
    try {
      response = await answer(call);
    } catch (error) {
      callback(serviceError(error, context));
      return;
    }
    callback(null, response);
  };
  return (call, callback) => void respond(call, callback);
}

function refused(context: ServerContext, why: string): handleUnaryCall<unknown, Message> {
  return unaryHandler(context, () => Promise.reject(new TritonError(501, why)));
}
