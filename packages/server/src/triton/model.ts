import type { DataType } from './datatype.ts';
import type { JsonValue } from './json.ts';
import type { Tensor } from './tensor.ts';

/** A model as Triton's clients see it: named tensors in, named tensors out. */
export interface TritonModel {
  readonly name: string;
  /** 0: shapes are whole. Otherwise every shape has one more dimension in front, the batch, of at most this size. */
  readonly maxBatchSize: number;
  /** A request may have any number of responses. */
  readonly decoupled: boolean;
  readonly inputs: readonly InputSpec[];
  readonly outputs: readonly OutputSpec[];
  /** Facts for people, shown in the model's configuration. */
  readonly facts: Readonly<Record<string, string>>;
  /** Run a checked request. One set of tensors a response. */
  run(request: ModelRequest): AsyncIterable<readonly Tensor[]>;
}

export interface InputSpec {
  readonly name: string;
  /** What is accepted; metadata names the first. */
  readonly datatypes: readonly [DataType, ...DataType[]];
  /** -1: any size. Without the batch dimension. */
  readonly dims: readonly number[];
  readonly optional: boolean;
}

export interface OutputSpec {
  readonly name: string;
  readonly datatype: DataType;
  readonly dims: readonly number[];
}

export interface ModelRequest {
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** Names of the outputs that the client wants; undefined: it did not say. */
  readonly outputs: ReadonlySet<string> | undefined;
  /** Parameters that are not Triton's own. */
  readonly parameters: ReadonlyMap<string, JsonValue>;
  /** Milliseconds for queue and work together. */
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal;
  /** See `tenantOf`. */
  readonly tenant: string;
}

/** A shape as metadata shows it. */
export function fullShape(model: Pick<TritonModel, 'maxBatchSize'>, dims: readonly number[]): readonly number[] {
  return model.maxBatchSize > 0 ? [-1, ...dims] : dims;
}
