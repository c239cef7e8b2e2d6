import type { DataType } from './datatype.ts';
import type { BatchTimes, ModelStatistics } from '../statistics/statistics.ts';
import type { Trace } from '../trace/trace.ts';
import type { Tensor } from './tensor.ts';

/** A model as Triton's clients see it: named tensors in, named tensors out. */
export interface TritonModel extends RunnableModel {
  /** Decimal digits. */
  readonly version: string;
  /** What runs it, in metadata. */
  readonly platform: string;
  /** The configuration as protobuf's JSON with every default printed. */
  config(): object;
  /** Whether it can answer now. */
  ready(): Promise<boolean>;
  /** Keep it able to answer, even if it is unloaded meanwhile, until the function that is returned is called. */
  hold(): () => void;
  readonly statistics: ModelStatistics;
}

/** What a request is checked against. */
export interface ModelSignature {
  readonly name: string;
  /** 0: shapes are whole. Otherwise every shape has one more dimension in front, the batch, of at most this size. */
  readonly maxBatchSize: number;
  /** A request may have any number of responses. */
  readonly decoupled: boolean;
  readonly inputs: readonly InputSpec[];
  readonly outputs: readonly OutputSpec[];
}

/** A model that answers requests of its signature. */
export interface RunnableModel extends ModelSignature {
  /** Run a checked request. */
  run(request: ModelRequest): AsyncIterable<ModelResponse>;
}

/** One of a request's responses. */
export interface ModelResponse {
  readonly outputs: readonly Tensor[];
  /** Whoever takes the response has the memory of its large tensors alone, and may free it (see `freeBytes`). */
  readonly owned?: boolean;
  readonly parameters?: ReadonlyMap<string, ParameterValue>;
}

/** What a parameter may be. */
export type ParameterValue = string | number | bigint | boolean;

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
  /** Names of its classes by their index; undefined: they have none. */
  readonly labels?: readonly string[] | undefined;
}

export interface ModelRequest {
  /** The client's; may be empty. */
  readonly id: string;
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** Nobody needs the inputs once a model has them: large ones may be handed to its thread, and are empty then. */
  readonly owned?: boolean;
  /** Names of the outputs that the client wants; undefined: it did not say. */
  readonly outputs: ReadonlySet<string> | undefined;
  /** Parameters that are not Triton's own. */
  readonly parameters: ReadonlyMap<string, ParameterValue>;
  /** Milliseconds: of a built-in model for queue and work together, of one in the repository as its queue policy says. */
  readonly timeoutMs: number | undefined;
  /** Of a model with priority levels: 1 is the first, 0 the default. */
  readonly priority: number;
  /** Undefined: the request is no part of a sequence. */
  readonly sequence: Sequence | undefined;
  readonly signal: AbortSignal;
  /** See `tenantOf`. */
  readonly tenant: string;
  /** Where what happens is noted; undefined: nowhere. */
  readonly trace?: Trace | undefined;
  /** Told what a successful request's time went into; models of the engine do not know. */
  readonly onTimes?: (times: BatchTimes) => void;
}

/** A request's place in a sequence of requests that belong together. */
export interface Sequence {
  readonly id: string | bigint;
  readonly start: boolean;
  readonly end: boolean;
}

/** A shape as metadata shows it. */
export function fullShape(model: Pick<ModelSignature, 'maxBatchSize'>, dims: readonly number[]): readonly number[] {
  return model.maxBatchSize > 0 ? [-1, ...dims] : dims;
}

/** Whether a shape is one that metadata shows. */
export function fits(
  model: Pick<ModelSignature, 'maxBatchSize'>,
  dims: readonly number[],
  shape: readonly number[],
): boolean {
  const batch = model.maxBatchSize > 0 ? 1 : 0;
  if (shape.length !== batch + dims.length) return false;
  for (let i = 0; i < dims.length; i++) if (dims[i] !== -1 && dims[i] !== shape[batch + i]) return false;
  return true;
}
