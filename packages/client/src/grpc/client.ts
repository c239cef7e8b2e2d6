import {
  Client,
  compressionAlgorithms,
  credentials,
  Metadata,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientDuplexStream,
} from '@grpc/grpc-js';
import { create, type DescMethod, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { call, limitOf } from '../attempts.ts';
import type { InferenceClient, Version } from '../client.ts';
import type {
  CudaRegion,
  LoadOverride,
  LogSettings,
  ModelConfig,
  ModelMetadata,
  ModelStatistics,
  RepositoryEntry,
  ServerMetadata,
  SystemRegion,
  TraceSettings,
} from '../description.ts';
import { InferenceError } from '../errors.ts';
import type { CallOptions, ClientOptions, InferRequest } from '../request.ts';
import type { InferResponse } from '../response.ts';
import { inferenceService } from './definition.ts';
import { fromMessage, toMessage } from './messages.ts';
import { plain } from './plain.ts';
import { GRPCInferenceService, type ModelInferRequest, type ModelStreamInferResponse } from './proto/inference_pb.js';
import { asInferenceError } from './status.ts';
import { InferStream } from './stream.ts';

export interface GrpcClientOptions extends ClientOptions {
  /** Certificates of TLS as grpc-js makes them; default: no TLS. */
  readonly credentials?: ChannelCredentials;
  /** Compress requests. Default: no. */
  readonly compression?: 'gzip' | 'deflate';
  /** Further options of grpc-js' channel, such as keepalive. */
  readonly channel?: ChannelOptions;
}

const METHODS = GRPCInferenceService.method;

/** A client of the gRPC protocol, for Node.js. */
export class GrpcClient implements InferenceClient {
  readonly #address: string;
  readonly #options: GrpcClientOptions;
  readonly #channel: Client;

  /** @param address host and port, such as `127.0.0.1:8001` */
  constructor(address: string, options: GrpcClientOptions = {}) {
    this.#address = address;
    this.#options = options;
    this.#channel = new Client(address, options.credentials ?? credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      ...(options.compression && {
        'grpc.default_compression_algorithm': compressionAlgorithms[options.compression],
      }),
      ...options.channel,
    });
  }

  /** Close the connection; calls under way fail. */
  close(): void {
    this.#channel.close();
  }

  async isLive(options: CallOptions = {}): Promise<boolean> {
    return this.#health(async () => (await this.#read(METHODS.serverLive, {}, { retries: 0, ...options })).live);
  }

  async isReady(options: CallOptions = {}): Promise<boolean> {
    return this.#health(async () => (await this.#read(METHODS.serverReady, {}, { retries: 0, ...options })).ready);
  }

  async isModelReady(name: string, version?: Version, options: CallOptions = {}): Promise<boolean> {
    const request = { name, version: textOf(version) };
    return this.#health(async () => (await this.#read(METHODS.modelReady, request, { retries: 0, ...options })).ready);
  }

  serverMetadata(options: CallOptions = {}): Promise<ServerMetadata> {
    return this.#plain(METHODS.serverMetadata, {}, options);
  }

  modelMetadata(name: string, version?: Version, options: CallOptions = {}): Promise<ModelMetadata> {
    return this.#plain(METHODS.modelMetadata, { name, version: textOf(version) }, options);
  }

  async modelConfig(name: string, version?: Version, options: CallOptions = {}): Promise<ModelConfig> {
    const request = { name, version: textOf(version) };
    return (
      await this.#plain<{ config: ModelConfig }, typeof METHODS.modelConfig>(METHODS.modelConfig, request, options)
    ).config;
  }

  async statistics(name = '', version?: Version, options: CallOptions = {}): Promise<readonly ModelStatistics[]> {
    const request = { name, version: textOf(version) };
    const { modelStatistics } = METHODS;
    type Answer = { model_stats: ModelStatistics[] };
    return (await this.#plain<Answer, typeof modelStatistics>(modelStatistics, request, options)).model_stats;
  }

  async infer(model: string, request: InferRequest, options: CallOptions = {}): Promise<InferResponse> {
    return fromMessage(await this.#unary(METHODS.modelInfer, toMessage(model, request), options, false));
  }

  /**
   * The responses of one request, as they come, also of a decoupled model. Leaving the loop cancels the request.
   * `timeoutMs` is the time for all of them.
   */
  async *inferStream(model: string, request: InferRequest, options: CallOptions = {}): AsyncGenerator<InferResponse> {
    // Errors end the call with their status, since there is one request only.
    const stream = this.stream({ ...options, headers: { triton_grpc_error: 'true', ...options.headers } });
    await stream.send(model, request, { triton_enable_empty_final_response: true });
    stream.end();
    for await (const { response, error } of stream) {
      if (error !== undefined) throw error;
      // The last message of a decoupled model may say no more than that it is the last.
      if (response.outputs.length > 0 || !response.final) yield response;
      if (response.final) return;
    }
  }

  /** A stream for any number of requests. `timeoutMs` is the time for all of it. */
  stream(options: CallOptions = {}): InferStream {
    const { name } = METHODS.modelStreamInfer;
    const { path, requestSerialize, responseDeserialize } = inferenceService[name];
    const duplex = this.#channel.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      this.#metadata(options),
    ) as ClientDuplexStream<ModelInferRequest, ModelStreamInferResponse>;
    return new InferStream(duplex, limitOf(this.#options, options), this.#address);
  }

  async repositoryIndex(
    { ready = false }: { readonly ready?: boolean } = {},
    options: CallOptions = {},
  ): Promise<readonly RepositoryEntry[]> {
    const { models } = await this.#read(METHODS.repositoryIndex, { ready }, options);
    return models.map(({ name, version, state, reason }) => ({
      name,
      ...(version !== '' && { version }),
      ...(state !== '' && { state }),
      ...(reason !== '' && { reason }),
    }));
  }

  async loadModel(modelName: string, override: LoadOverride = {}, options: CallOptions = {}): Promise<void> {
    const { config, files = {} } = override;
    const text = typeof config === 'object' ? JSON.stringify(config) : config;
    const content = (file: Uint8Array | string): Uint8Array<ArrayBuffer> =>
      (typeof file === 'string' ? new TextEncoder().encode(file) : file) as Uint8Array<ArrayBuffer>;
    const parameters = {
      ...(text !== undefined && { config: { parameterChoice: { case: 'stringParam' as const, value: text } } }),
      ...Object.fromEntries(
        Object.entries(files).map(([path, file]) => [
          `file:${path}`,
          { parameterChoice: { case: 'bytesParam' as const, value: content(file) } },
        ]),
      ),
    };
    await this.#unary(METHODS.repositoryModelLoad, { modelName, parameters }, options, false);
  }

  async unloadModel(
    modelName: string,
    { dependents = false }: { readonly dependents?: boolean } = {},
    options: CallOptions = {},
  ): Promise<void> {
    const parameters = {
      unload_dependents: { parameterChoice: { case: 'boolParam' as const, value: dependents } },
    };
    await this.#unary(METHODS.repositoryModelUnload, { modelName, parameters }, options, false);
  }

  async systemSharedMemory(name = '', options: CallOptions = {}): Promise<readonly SystemRegion[]> {
    const { systemSharedMemoryStatus } = METHODS;
    type Answer = { regions: Record<string, SystemRegion> };
    const answer = await this.#plain<Answer, typeof systemSharedMemoryStatus>(
      systemSharedMemoryStatus,
      { name },
      options,
    );
    return Object.values(answer.regions);
  }

  async registerSystemSharedMemory(
    name: string,
    region: { readonly key: string; readonly byteSize: number; readonly offset?: number },
    options: CallOptions = {},
  ): Promise<void> {
    const { key, byteSize, offset = 0 } = region;
    const request = { name, key, byteSize: BigInt(byteSize), offset: BigInt(offset) };
    await this.#unary(METHODS.systemSharedMemoryRegister, request, options, false);
  }

  async unregisterSystemSharedMemory(name = '', options: CallOptions = {}): Promise<void> {
    await this.#unary(METHODS.systemSharedMemoryUnregister, { name }, options, false);
  }

  async cudaSharedMemory(name = '', options: CallOptions = {}): Promise<readonly CudaRegion[]> {
    const { cudaSharedMemoryStatus } = METHODS;
    type Answer = { regions: Record<string, CudaRegion> };
    const answer = await this.#plain<Answer, typeof cudaSharedMemoryStatus>(cudaSharedMemoryStatus, { name }, options);
    return Object.values(answer.regions);
  }

  async registerCudaSharedMemory(
    name: string,
    region: { readonly rawHandle: Uint8Array; readonly deviceId: number; readonly byteSize: number },
    options: CallOptions = {},
  ): Promise<void> {
    const { rawHandle, deviceId, byteSize } = region;
    const request = {
      name,
      rawHandle: rawHandle as Uint8Array<ArrayBuffer>,
      deviceId: BigInt(deviceId),
      byteSize: BigInt(byteSize),
    };
    await this.#unary(METHODS.cudaSharedMemoryRegister, request, options, false);
  }

  async unregisterCudaSharedMemory(name = '', options: CallOptions = {}): Promise<void> {
    await this.#unary(METHODS.cudaSharedMemoryUnregister, { name }, options, false);
  }

  traceSettings(model = '', options: CallOptions = {}): Promise<TraceSettings> {
    return this.#traceSettings({}, model, options, true);
  }

  updateTraceSettings(settings: TraceSettings, model = '', options: CallOptions = {}): Promise<TraceSettings> {
    return this.#traceSettings(settings, model, options, false);
  }

  async logSettings(options: CallOptions = {}): Promise<LogSettings> {
    return this.#logSettings({}, options, true);
  }

  async updateLogSettings(settings: LogSettings, options: CallOptions = {}): Promise<LogSettings> {
    return this.#logSettings(settings, options, false);
  }

  async #traceSettings(
    given: TraceSettings,
    modelName: string,
    options: CallOptions,
    reads: boolean,
  ): Promise<TraceSettings> {
    // A setting without values goes back to its default.
    const values = Object.entries(given).map(([name, value]) => [
      name,
      { value: value === null ? [] : [value].flat() },
    ]);
    const request = { modelName, settings: Object.fromEntries(values) as Record<string, { value: string[] }> };
    const { settings } = await this.#unary(METHODS.traceSetting, request, options, reads);
    const isList = (name: string, value: readonly string[]): boolean => name === 'trace_level' || value.length !== 1;
    return Object.fromEntries(
      Object.entries(settings).map(([name, { value }]) => [name, isList(name, value) ? value : value[0]]),
    );
  }

  async #logSettings(given: LogSettings, options: CallOptions, reads: boolean): Promise<LogSettings> {
    const choice = (value: string | number | boolean) => {
      if (typeof value === 'boolean') return { case: 'boolParam' as const, value };
      if (typeof value === 'number') return { case: 'uint32Param' as const, value };
      return { case: 'stringParam' as const, value };
    };
    const asked = Object.entries(given).map(([name, value]) => [name, { parameterChoice: choice(value) }] as const);
    const request = { settings: Object.fromEntries(asked) };
    const { settings } = await this.#unary(METHODS.logSettings, request, options, reads);
    return Object.fromEntries(
      Object.entries(settings).map(([name, { parameterChoice }]) => [name, parameterChoice.value ?? '']),
    );
  }

  /** An error, or no answer at all, is a "no". */
  async #health(ask: () => Promise<boolean>): Promise<boolean> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof InferenceError) return false;
      throw error;
    }
  }

  async #plain<T, M extends DescMethod>(
    method: M,
    request: MessageInitShape<M['input']>,
    options: CallOptions,
  ): Promise<T> {
    return plain<T>(method.output, await this.#read(method, request, options));
  }

  #read<M extends DescMethod>(
    method: M,
    request: MessageInitShape<M['input']>,
    options: CallOptions,
  ): Promise<MessageShape<M['output']>> {
    return this.#unary(method, request, options, true);
  }

  #unary<M extends DescMethod>(
    method: M,
    request: MessageInitShape<M['input']>,
    options: CallOptions,
    reads: boolean,
  ): Promise<MessageShape<M['output']>> {
    const { path, requestSerialize, responseDeserialize } = inferenceService[method.name];
    const message = create(method.input, request);
    return call(this.#options, options, reads, (signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<MessageShape<M['output']>>();
      const under = this.#channel.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        message,
        this.#metadata(options),
        (error, response) => {
          signal?.removeEventListener('abort', cancel);
          if (error !== null) reject(asInferenceError(error, this.#address));
          else resolve(response as MessageShape<M['output']>);
        },
      );
      const cancel = (): void => under.cancel();
      signal?.addEventListener('abort', cancel, { once: true });
      return promise;
    });
  }

  #metadata({ headers }: CallOptions): Metadata {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({ ...this.#options.headers, ...headers })) metadata.set(name, value);
    return metadata;
  }
}

function textOf(version: Version): string {
  return version === undefined ? '' : String(version);
}
