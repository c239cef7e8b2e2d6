/**
 * What a model in TypeScript is written against: the counterpart of Triton's Python backend, imported as
 * `@rose/server/backend`. A version directory of the model repository holds `model.ts` whose default export is a class
 * of the kind `ModelClass`:
 *
 * ```ts
 * export default class implements Model {
 *   execute(requests: readonly InferenceRequest[]) {
 *     return requests.map((request) => {
 *       const { shape, data } = request.input('INPUT0', 'FP32');
 *       return { outputs: { OUTPUT0: tensor('FP32', shape, data.map((x) => 2 * x)) } };
 *     });
 *   }
 * }
 * ```
 *
 * The file runs as it is, in a thread of its own; this module is found there wherever the repository lies.
 */
import { elementCount, isElementType, TYPED_ARRAYS, type ElementType } from './elements.ts';

/** The arrays that hold the elements of each type. BF16 is the upper half of a float32's bits; BOOL is 0 or 1. */
export interface DataOf {
  readonly BOOL: Uint8Array;
  readonly UINT8: Uint8Array;
  readonly UINT16: Uint16Array;
  readonly UINT32: Uint32Array;
  readonly UINT64: BigUint64Array;
  readonly INT8: Int8Array;
  readonly INT16: Int16Array;
  readonly INT32: Int32Array;
  readonly INT64: BigInt64Array;
  readonly FP16: Float16Array;
  readonly FP32: Float32Array;
  readonly FP64: Float64Array;
  readonly BF16: Uint16Array;
  readonly BYTES: readonly Uint8Array[];
}
export type DataType = keyof DataOf;

/** A tensor in row-major order. Where the model has a batch dimension, it is the first. */
export type Tensor<D extends DataType = DataType> = {
  [T in D]: { readonly datatype: T; readonly shape: readonly number[]; readonly data: DataOf[T] };
}[D];

/** A request's or a response's parameter. */
export type ParameterValue = string | number | bigint | boolean;

/** One answer to a request. */
export interface InferenceResponse {
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
}

/** What `execute` returns for each request: an answer, or why there is none. */
export type Outcome = InferenceResponse | Error;

/** The class that `model.ts` exports by default; one object of it lives in each instance's thread. */
export interface Model {
  /** Called once, before any request. An instance that throws here does not become ready. */
  initialize?(context: ModelContext): void | Promise<void>;
  /**
   * Answer requests that were batched together; their batch dimensions add up to `max_batch_size` at most. The next
   * batch comes when the promise has resolved.
   * @returns an outcome for each request, in their order; of a decoupled model nothing: it answers through
   *   `request.sender`. What is thrown fails every request of the batch that has not ended.
   */
  execute(
    requests: readonly InferenceRequest[],
  ): readonly Outcome[] | Promise<readonly Outcome[]> | void | Promise<void>;
  /** Called once, after the last request. */
  finalize?(): void | Promise<void>;
}

/**
 * The class itself. `autoCompleteConfig` may fill in what `config.pbtxt` leaves out (inputs, outputs, `max_batch_size`...)
 * before the configuration is checked; it gets and returns protobuf's JSON of ModelConfig with Triton's field names.
 * `directory` is that of the version that is completed.
 */
export interface ModelClass {
  new (): Model;
  autoCompleteConfig?(config: ModelConfig, where: { readonly directory: string }): ModelConfig | Promise<ModelConfig>;
}

/** A model's configuration, as `GET /v2/models/NAME/config` answers. */
export interface ModelConfig {
  name?: string;
  backend?: string;
  max_batch_size?: number;
  input?: ModelTensor[];
  output?: ModelTensor[];
  parameters?: Record<string, { string_value: string }>;
  model_transaction_policy?: { decoupled?: boolean };
  sequence_batching?: {
    control_input?: { name: string; control: { [field: string]: unknown }[] }[];
    state?: { input_name: string; output_name: string; data_type: string; dims: number[]; [field: string]: unknown }[];
    iterative_sequence?: boolean;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

export interface ModelTensor {
  name: string;
  /** `TYPE_FP32`, `TYPE_STRING`... */
  data_type: string;
  /** Without the batch dimension; -1 is any size. */
  dims: number[];
  optional?: boolean;
  [field: string]: unknown;
}

/** What an instance of a model knows about itself, and its way to other models. */
export interface ModelContext {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  /** The values of `parameters` in the configuration. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The version's directory. */
  readonly directory: string;
  /** From 0, among the instances of this version. */
  readonly instance: number;
  /** Ask another model that answers exactly once. */
  infer(call: ModelCall): Promise<InferenceResponse>;
  /** Ask another model that answers any number of times. Leaving the loop cancels what is still to come. */
  stream(call: ModelCall): AsyncIterable<InferenceResponse>;
}

/** A request to another model of this server. */
export interface ModelCall {
  readonly model: string;
  /** Left out: the server chooses. */
  readonly version?: string | number;
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** Left out: all. */
  readonly outputs?: readonly string[];
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
  /** Abort to cancel; usually the `signal` of the request that this one serves. */
  readonly signal?: AbortSignal;
}

export interface InferenceRequest {
  /** The client's; may be empty. */
  readonly id: string;
  /** Parameters that are not the protocol's own. */
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  /** Names of the outputs that the client wants; undefined: all. */
  readonly requestedOutputs: ReadonlySet<string> | undefined;
  /** The sequence that the request belongs to; undefined: none. */
  readonly sequence: Sequence | undefined;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /** The way to answer for decoupled models; others must leave it alone. */
  readonly sender: ResponseSender;
  /** Names of the inputs that the request has. */
  readonly inputNames: readonly string[];
  /** Whether an optional input is there. */
  has(name: string): boolean;
  /** An input. Throws if the request lacks it, or if it has another type. */
  input(name: string): Tensor;
  input<D extends DataType>(name: string, datatype: D): Tensor<D>;
  /**
   * As `input`, for a tensor that is to be an output, changed or as it is: where it is large it is sent without a copy, and
   * its array is empty from then on.
   */
  take(name: string): Tensor;
  take<D extends DataType>(name: string, datatype: D): Tensor<D>;
  /**
   * Of a model with `state` in its `sequence_batching`: what the state's input is in the next request of the sequence.
   * It counts if this request succeeds, and otherwise stays as it was.
   * @param name the state's `output_name`
   */
  setState(name: string, tensor: Tensor): void;
  /**
   * Of a model with `iterative_sequence`: have this request executed again, in a later batch, with the states that it
   * has set. What `execute` returns for it is left aside, unless it is an Error; a decoupled model may have sent
   * responses.
   */
  reschedule(): void;
}

export interface Sequence {
  readonly id: string | bigint;
  readonly start: boolean;
  readonly end: boolean;
}

/** Answers one request of a decoupled model any number of times, also long after `execute` has returned. */
export interface ResponseSender {
  /**
   * Send a response; an Error ends the request with it. Resolves when the server is ready for more: a model that waits
   * for it is never far ahead of a slow client. After the request ended or was cancelled nothing is sent.
   */
  send(outcome: Outcome): Promise<void>;
  /** Say that nothing follows. Every request must come to this, to an Error, or be cancelled. */
  end(): void;
}

/** What an error means to the client: the statuses of both protocols follow from it. */
export type ErrorCode = 'INVALID_ARG' | 'NOT_FOUND' | 'UNAVAILABLE' | 'UNSUPPORTED' | 'CANCELLED' | 'INTERNAL';

/** An error with a status of its own. Any other Error is `INTERNAL` to the client. */
export class ModelError extends Error {
  readonly code: ErrorCode;

  constructor(message: string, code: ErrorCode = 'INTERNAL') {
    super(message);
    this.name = 'ModelError';
    this.code = code;
  }
}

/**
 * A tensor. Its array is copied once when it is sent, unless it lies in shared memory (see `shared`).
 * @param data a typed array of the type's own kind, or for BYTES strings and bytes
 * @throws RangeError when the shape does not have so many elements, TypeError when the array is of another kind
 */
export function tensor<D extends DataType>(
  datatype: D,
  shape: readonly number[],
  data: D extends 'BYTES' ? readonly (Uint8Array | string)[] : DataOf[D],
): Tensor<D> {
  const elements = elementCount(shape);
  if (data.length !== elements) {
    throw new RangeError(`a tensor of shape [${shape.join(',')}] has ${elements} elements, the array ${data.length}`);
  }
  if (isElementType(datatype)) {
    if (!(data instanceof TYPED_ARRAYS[datatype])) {
      throw new TypeError(`elements of ${datatype} stand in a ${TYPED_ARRAYS[datatype].name}`);
    }
    return { datatype, shape, data } as unknown as Tensor<D>;
  }
  const bytes = (data as readonly (Uint8Array | string)[]).map((element) =>
    typeof element === 'string' ? Buffer.from(element) : element,
  );
  return { datatype, shape, data: bytes } as unknown as Tensor<D>;
}

/**
 * An array of zeros in memory that all threads share: a tensor over it is sent without a copy. Do not change it after
 * it was sent.
 */
export function shared<D extends ElementType>(datatype: D, elements: number): DataOf[D] {
  const type = TYPED_ARRAYS[datatype];
  return new type(new SharedArrayBuffer(elements * type.BYTES_PER_ELEMENT)) as unknown as DataOf[D];
}

/** The texts of a tensor of BYTES. */
export function texts({ data }: Tensor<'BYTES'>): string[] {
  return data.map((element) => Buffer.from(element.buffer, element.byteOffset, element.byteLength).toString('utf8'));
}
