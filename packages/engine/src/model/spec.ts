/**
 * A model as data. A checkpoint reader turns `config.json` into one frozen ModelSpec; everything after it (parameters,
 * plan, memory, device) reads only these fields and never an architecture's name.
 */
export interface ModelSpec {
  /** The checkpoint's architecture, for people only: no code may branch on it. */
  readonly architecture: string;
  readonly vocabSize: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Longest sequence in tokens, prompt and answer together. */
  readonly contextLength: number;
  readonly embedding: EmbeddingSpec;
  readonly blocks: readonly BlockSpec[];
  /** Norm after the last block, before the head (decoders); undefined where the last block ends with its own. */
  readonly finalNorm: NormSpec | undefined;
  readonly head: HeadSpec;
}

export interface EmbeddingSpec {
  /** Rows of the learned position table; 0 where positions enter through RoPE. */
  readonly positions: number;
  /** Rows of the token type table; 0 where there is none. */
  readonly types: number;
  /** Norm over the sum of the embeddings (BERT). */
  readonly norm: NormSpec | undefined;
}

/** One layer: a mixer over tokens and a channel part over features, each inside a residual connection. */
export interface BlockSpec {
  /** `pre`: x + f(norm(x)). `post`: norm(x + f(x)). */
  readonly normPlacement: 'pre' | 'post';
  readonly mixerNorm: NormSpec;
  readonly mixer: AttentionSpec;
  readonly channelNorm: NormSpec;
  readonly channel: DenseSpec;
}

/** `rms`: weight only. `layer`: weight and bias. */
export interface NormSpec {
  readonly kind: 'rms' | 'layer';
  readonly epsilon: number;
}

export interface AttentionSpec {
  readonly kind: 'attention';
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly mask: 'causal' | 'bidirectional';
  /** A token sees itself and `window - 1` tokens before it; undefined: all of them. */
  readonly window: number | undefined;
  /** Factor on the scores before the softmax. */
  readonly scale: number;
  readonly rope: RopeSpec | undefined;
  /** Norm over each head of q and k, before RoPE (Qwen3). */
  readonly qkNorm: NormSpec | undefined;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
}

/** Rotary embedding, half-split: element i turns with element i + dim / 2. */
export interface RopeSpec {
  readonly theta: number;
  /** Elements of a head that turn (the first ones). */
  readonly dim: number;
  readonly scaling: RopeScaling;
}

export type RopeScaling =
  | { readonly kind: 'none' }
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    }
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Factor on cos and sin. */
      readonly attentionFactor: number;
      /** Whether the correction range is rounded outwards to whole dimensions. */
      readonly truncate: boolean;
    };

export interface DenseSpec {
  readonly kind: 'dense';
  readonly size: number;
  readonly activation: Activation;
  /** act(gate(x)) * up(x) instead of act(up(x)). */
  readonly gated: boolean;
  readonly bias: boolean;
}

/** `gelu`: the erf form. `gelu_tanh`: the tanh approximation. */
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu';

export type HeadSpec = LogitsHead | EmbeddingHead | ClassifierHead;

/** Next-token logits. */
export interface LogitsHead {
  readonly kind: 'logits';
  /** The output matrix is the token embedding. */
  readonly tied: boolean;
}

/** One vector a sequence. */
export interface EmbeddingHead {
  readonly kind: 'embedding';
  readonly pooling: Pooling;
  /** Scale the vector to Euclidean length 1. */
  readonly normalize: boolean;
}

/** One row of label logits a sequence: optional dense layer with tanh over the pooled vector, then the classifier. */
export interface ClassifierHead {
  readonly kind: 'classifier';
  readonly pooling: Pooling;
  readonly pooler: boolean;
  readonly labels: readonly string[];
}

export type Pooling = 'cls' | 'mean' | 'max' | 'mean_sqrt' | 'last';

/** What a client can ask of a model with this spec. */
export type Task = 'generate' | 'embed' | 'score';

export function taskOf(spec: ModelSpec): Task {
  if (spec.head.kind === 'logits') return 'generate';
  return spec.head.kind === 'embedding' ? 'embed' : 'score';
}
