import type { Activation, AttentionSpec, NormSpec, Pooling, RopeSpec } from '../model/spec.ts';

/**
 * What a model does in one step, as a list of operations over named buffers. A plan knows nothing of devices, batch
 * sizes or memory: a device compiles it, choosing kernels, fusing and placing buffers as it likes, as long as every
 * row's result stays bit for bit the same.
 */
export interface Plan {
  readonly buffers: readonly BufferSpec[];
  readonly operations: readonly Operation[];
  /** The buffer that holds the step's result. */
  readonly result: string;
}

/** A float32 matrix [rows, width] that lives during one step. */
export interface BufferSpec {
  readonly name: string;
  /** How many rows: one for each token of the step, each token whose logits are wanted, or each sequence. */
  readonly rows: RowKind;
  readonly width: number;
}

export type RowKind = 'tokens' | 'outputs' | 'sequences';

export type Operation =
  | EmbedOperation
  | NormOperation
  | LinearOperation
  | CacheOperation
  | AttentionOperation
  | GateOperation
  | GatherOperation
  | PoolOperation
  | NormalizeOperation
  | SampleOperation;

/** output = sum of the tables' rows for each token's id, position and type. */
export interface EmbedOperation {
  readonly kind: 'embed';
  readonly tokens: string;
  readonly positions: string | undefined;
  readonly types: string | undefined;
  readonly output: string;
}

/** s = input + add; output = norm(s); s is kept in `sum` where that is named. */
export interface NormOperation {
  readonly kind: 'norm';
  readonly norm: NormSpec;
  /** Base name of the parameters. */
  readonly weights: string;
  readonly input: string;
  readonly add: string | undefined;
  readonly sum: string | undefined;
  readonly output: string;
}

/** output = activation(input W^T + bias), W being the named matrices one under the other. */
export interface LinearOperation {
  readonly kind: 'linear';
  /** Base names of the parameters. */
  readonly weights: readonly string[];
  readonly bias: boolean;
  readonly input: string;
  readonly output: string;
  readonly activation: Activation | 'tanh' | undefined;
}

/** Norm the heads of q and k, turn them (RoPE), and write k and v into the layer's pages; q is changed in place. */
export interface CacheOperation {
  readonly kind: 'cache';
  readonly layer: number;
  readonly qkv: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly rope: RopeSpec | undefined;
  readonly qkNorm: { readonly norm: NormSpec; readonly q: string; readonly k: string } | undefined;
}

/** output = softmax(scale q k^T + mask) v over the layer's pages; q is the first part of each row of qkv. */
export interface AttentionOperation {
  readonly kind: 'attention';
  readonly layer: number;
  readonly qkv: string;
  readonly output: string;
  readonly attention: AttentionSpec;
}

/** output[:, j] = activation(input[:, j]) * input[:, size + j]. */
export interface GateOperation {
  readonly kind: 'gate';
  readonly activation: Activation;
  readonly size: number;
  readonly input: string;
  readonly output: string;
}

/** The rows of tokens whose logits are wanted. */
export interface GatherOperation {
  readonly kind: 'gather';
  readonly input: string;
  readonly output: string;
}

export interface PoolOperation {
  readonly kind: 'pool';
  readonly pooling: Pooling;
  readonly input: string;
  readonly output: string;
}

/** Scale each row to Euclidean length 1, in place. */
export interface NormalizeOperation {
  readonly kind: 'normalize';
  readonly input: string;
}

/** Draw each output row's next token from its logits. */
export interface SampleOperation {
  readonly kind: 'sample';
  readonly logits: string;
}
