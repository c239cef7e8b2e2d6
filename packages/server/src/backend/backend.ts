import type { ServedModel } from '@rose/engine';
import type { ModelConfig } from '../grpc/proto/model_config_pb.js';
import type { ObserveModel } from '../metrics/observe.ts';
import type { RateLimiter } from '../scheduling/rate-limiter.ts';
import type { ModelStatistics } from '../statistics/statistics.ts';
import type { ModelSignature, ModelRequest, ModelResponse, TritonModel } from '../triton/model.ts';
import type { WireCall } from './protocol.ts';

/** One version of a model, as a backend is asked to load it. */
export interface LoadRequest {
  readonly name: string;
  readonly version: number;
  /** The version's directory. */
  readonly directory: string;
  /** Complete and checked. */
  readonly config: ModelConfig;
  /** As the model itself sees its tensors: where they are reshaped, otherwise than clients do. */
  readonly signature: ModelSignature;
  readonly statistics: ModelStatistics;
  /** Ask another model on behalf of this one. */
  readonly call: (call: WireCall, signal: AbortSignal) => AsyncIterable<ModelResponse>;
  /** The model that answers by this name. Throws where none does. */
  readonly find: (name: string, version: number | undefined) => TritonModel;
  /** Measure what an engine does for it. */
  readonly observe: ObserveModel;
  /** Gives instances their turns; undefined: each executes when it can. */
  readonly limiter: RateLimiter | undefined;
  /** Something for the operator to read. */
  readonly warn: (message: string) => void;
  /** Aborted when nobody waits for the model any more: what has begun ends, and the load rejects with its reason. */
  readonly signal: AbortSignal;
}

/** A version that a backend has loaded. */
export interface BackendModel {
  /** Why it cannot answer now; undefined: it can. */
  readonly trouble: string | undefined;
  /** What requests are checked against, where that is wider than the configuration says. */
  readonly signature?: ModelSignature;
  /** The statistics of the load request, brought up to date; undefined: they always are. */
  readonly statistics?: ModelStatistics;
  /** The model that an engine runs, for protocols other than Triton's. */
  readonly served?: ServedModel | undefined;
  /** Whether it can answer now, where that must be asked; undefined: it can where there is no trouble. */
  ready?(): Promise<boolean>;
  run(request: ModelRequest): AsyncIterable<ModelResponse>;
  /**
   * Wait until requests under way have ended, at most so many milliseconds, then free everything. What has not ended by
   * then fails with 503.
   */
  close(limitMs: number): Promise<void>;
}

/** A kind of model that the repository can hold. */
export interface Backend {
  /** The file that a version directory holds unless the configuration names another; the first that exists. */
  readonly files: readonly string[];
  /** The model alone says which tensors it has, so that every configuration is completed. */
  readonly decidesTensors?: boolean;
  /** Complete a configuration from what the model itself says. Rejects with the signal's reason when that is aborted. */
  complete(config: ModelConfig, directory: string, signal: AbortSignal): Promise<ModelConfig>;
  load(request: LoadRequest): Promise<BackendModel>;
}
