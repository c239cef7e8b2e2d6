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
} from './description.ts';
import type { CallOptions, InferRequest } from './request.ts';
import type { InferResponse } from './response.ts';

/** A model's version; undefined: the server chooses, or all of them where the answer has several. */
export type Version = string | number | undefined;

/** What both protocols can do. Calls reject with InferenceError. */
export interface InferenceClient {
  /** Whether the server answers and is alive; a server that cannot be reached is not. */
  isLive(options?: CallOptions): Promise<boolean>;
  /** Whether every model that should answer can. */
  isReady(options?: CallOptions): Promise<boolean>;
  isModelReady(model: string, version?: Version, options?: CallOptions): Promise<boolean>;
  serverMetadata(options?: CallOptions): Promise<ServerMetadata>;
  modelMetadata(model: string, version?: Version, options?: CallOptions): Promise<ModelMetadata>;
  modelConfig(model: string, version?: Version, options?: CallOptions): Promise<ModelConfig>;
  /** @param model default: all models */
  statistics(model?: string, version?: Version, options?: CallOptions): Promise<readonly ModelStatistics[]>;

  infer(model: string, request: InferRequest, options?: CallOptions): Promise<InferResponse>;

  repositoryIndex(filter?: { readonly ready?: boolean }, options?: CallOptions): Promise<readonly RepositoryEntry[]>;
  loadModel(model: string, override?: LoadOverride, options?: CallOptions): Promise<void>;
  unloadModel(model: string, what?: { readonly dependents?: boolean }, options?: CallOptions): Promise<void>;

  /** @param name default: all regions */
  systemSharedMemory(name?: string, options?: CallOptions): Promise<readonly SystemRegion[]>;
  /** @param region `key`: the name of the POSIX shared memory, such as `/input` */
  registerSystemSharedMemory(
    name: string,
    region: { readonly key: string; readonly byteSize: number; readonly offset?: number },
    options?: CallOptions,
  ): Promise<void>;
  /** @param name default: all regions */
  unregisterSystemSharedMemory(name?: string, options?: CallOptions): Promise<void>;
  cudaSharedMemory(name?: string, options?: CallOptions): Promise<readonly CudaRegion[]>;
  /** @param region `rawHandle`: the bytes of a cudaIpcMemHandle_t */
  registerCudaSharedMemory(
    name: string,
    region: { readonly rawHandle: Uint8Array; readonly deviceId: number; readonly byteSize: number },
    options?: CallOptions,
  ): Promise<void>;
  unregisterCudaSharedMemory(name?: string, options?: CallOptions): Promise<void>;

  /** @param model default: the server's own settings */
  traceSettings(model?: string, options?: CallOptions): Promise<TraceSettings>;
  updateTraceSettings(settings: TraceSettings, model?: string, options?: CallOptions): Promise<TraceSettings>;
  logSettings(options?: CallOptions): Promise<LogSettings>;
  updateLogSettings(settings: LogSettings, options?: CallOptions): Promise<LogSettings>;
}
