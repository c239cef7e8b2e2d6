/** What to load and where. */
export interface OpenOptions {
  readonly models: readonly ModelSource[];
  /** Default: `cpu`. `cuda` and `cuda:N` are refused until Rose has that device. */
  readonly device?: string;
  /** Threads that compute. Default: the machine's cores, 16 at most. */
  readonly threads?: number;
  /** Weights in fewer bits; undefined keeps the checkpoint's (float16 is widened to float32). */
  readonly quantize?: 'int8' | 'int4';
  /** Keys and values of the context. Default f32. */
  readonly cacheDtype?: 'f32' | 'bf16';
  /** Sequences that run together. Default 32. */
  readonly maxSequences?: number;
  readonly onProgress?: (event: OpenProgress) => void;
}

export interface ModelSource {
  /** The name clients use. */
  readonly name: string;
  /** A model directory (see `resolveModel` for hub names). */
  readonly directory: string;
}

export type OpenProgress =
  | { readonly kind: 'device'; readonly description: string }
  | { readonly kind: 'weights'; readonly model: string; readonly bytes: number; readonly totalBytes: number }
  | { readonly kind: 'ready'; readonly model: string; readonly milliseconds: number };
