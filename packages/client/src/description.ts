/** Answers about the server and its models, with the protocol's own field names, the same over HTTP and gRPC. */

export interface ServerMetadata {
  readonly name: string;
  readonly version: string;
  readonly extensions: readonly string[];
}

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: string;
  /** -1: any size. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

/** `inference.ModelConfig` as protobuf's JSON, with numbers. */
export interface ModelConfig {
  readonly name: string;
  readonly platform: string;
  readonly backend: string;
  readonly max_batch_size: number;
  readonly input: readonly { readonly name: string; readonly data_type: string; readonly dims: readonly number[] }[];
  readonly output: readonly { readonly name: string; readonly data_type: string; readonly dims: readonly number[] }[];
  readonly [field: string]: unknown;
}

/** How often something happened, and how long it took altogether, in nanoseconds. */
export interface Duration {
  readonly count: number;
  readonly ns: number;
}

export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly last_inference: number;
  /** Rows of all successful requests. */
  readonly inference_count: number;
  /** Batches that were executed. */
  readonly execution_count: number;
  readonly inference_stats: Readonly<
    Record<
      'success' | 'fail' | 'queue' | 'compute_input' | 'compute_infer' | 'compute_output' | 'cache_hit' | 'cache_miss',
      Duration
    >
  >;
  readonly batch_stats: readonly ({ readonly batch_size: number } & Readonly<
    Record<'compute_input' | 'compute_infer' | 'compute_output', Duration>
  >)[];
  readonly memory_usage: readonly { readonly type: string; readonly id: number; readonly byte_size: number }[];
  readonly response_stats: Readonly<
    Record<
      string,
      Readonly<Record<'compute_infer' | 'compute_output' | 'success' | 'fail' | 'empty_response' | 'cancel', Duration>>
    >
  >;
}

/** A line of the repository's index. A model that was never loaded has only a name. */
export interface RepositoryEntry {
  readonly name: string;
  readonly version?: string;
  readonly state?: string;
  readonly reason?: string;
}

/** What a load brings in place of what the repository has. */
export interface LoadOverride {
  /** A configuration in protobuf's JSON, as an object or as text. */
  readonly config?: object | string;
  /** Files by their path in the model's directory, such as `1/model.ts`; with them goes a configuration. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
}

export interface SystemRegion {
  readonly name: string;
  readonly key: string;
  readonly offset: number;
  readonly byte_size: number;
}

export interface CudaRegion {
  readonly name: string;
  readonly device_id: number;
  readonly byte_size: number;
}

/** Trace settings: `trace_level` and others, as lists or texts; what is set to null goes back to its default. */
export type TraceSettings = Readonly<Record<string, string | readonly string[] | null>>;
export type LogSettings = Readonly<Record<string, string | number | boolean>>;
