/** What both encoders' processes do; times are taken inside them. */
export interface EncoderOpen {
  /** Model directory or file. */
  readonly path: string;
  readonly threads: number;
}

/** Sequences of equal length, embedded by one call. */
export interface EncoderRun {
  readonly inputs: readonly (readonly number[])[];
}

export interface EncoderResult {
  readonly milliseconds: number;
  /** One of length 1 for each input. */
  readonly embeddings: readonly Float32Array[];
}
