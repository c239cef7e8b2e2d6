import type { DataType } from './datatype.ts';
import type { Tensor } from './tensor.ts';

/** What a parameter may be; numbers that are whole become integers. */
export type ParameterValue = string | number | bigint | boolean;
export type Parameters = Readonly<Record<string, ParameterValue>>;

/** A place in memory that client and server share, in a region that was registered. */
export interface SharedMemory {
  readonly region: string;
  readonly byteSize: number;
  /** Bytes from the region's beginning. Default 0. */
  readonly offset?: number;
}

/** An input whose elements lie in shared memory. */
export interface SharedInput {
  readonly datatype: DataType;
  readonly shape: readonly number[];
  readonly sharedMemory: SharedMemory;
}

export interface RequestedOutput {
  readonly name: string;
  /** Instead of the elements, so many of the largest with their index and label, as texts `value:index:label`. */
  readonly classification?: number;
  /** Where the server is to write the elements. */
  readonly sharedMemory?: SharedMemory;
}

export interface InferRequest {
  /** Inputs by their names. */
  readonly inputs: Readonly<Record<string, Tensor | SharedInput>>;
  /** Default: all that the model makes. */
  readonly outputs?: readonly (string | RequestedOutput)[];
  /** Default: the server chooses. */
  readonly version?: string | number;
  /** Comes back with the response. */
  readonly id?: string;
  /** For the model. */
  readonly parameters?: Parameters;
  /** 1 is the first; 0 the default. */
  readonly priority?: number;
  /** How long it may wait in the model's queue, where the model allows requests to say so. */
  readonly queueTimeoutMicroseconds?: number;
  /** The sequence of requests that it belongs to. */
  readonly sequence?: { readonly id: string | number | bigint; readonly start?: boolean; readonly end?: boolean };
}

/** How a call is made. */
export interface CallOptions {
  /** Ends the call, and with it the server's work; it fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** The call fails with kind `timeout` if it has not ended by then. Default: the client's. */
  readonly timeoutMs?: number | undefined;
  /**
   * How often it is tried again where no answer came, or 503. Default: the client's for what only reads; 0 for
   * inference, loading and registering, which the server may have begun: say more where doing it twice does no harm.
   */
  readonly retries?: number;
  /** Headers of HTTP, metadata of gRPC. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a client does unless a call says otherwise. */
export interface ClientOptions {
  /** Default: none. */
  readonly timeoutMs?: number;
  /** Of calls that only read. Default 2. */
  readonly retries?: number;
  /** Headers of HTTP, metadata of gRPC, with every call; for instance an API key. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Parameters of a request as both protocols send them. */
export function requestParameters(request: InferRequest): Record<string, ParameterValue> {
  const { parameters = {}, priority, queueTimeoutMicroseconds, sequence } = request;
  return {
    ...parameters,
    ...(priority !== undefined && { priority }),
    ...(queueTimeoutMicroseconds !== undefined && { timeout: queueTimeoutMicroseconds }),
    ...(sequence !== undefined && {
      sequence_id: sequence.id,
      sequence_start: sequence.start ?? false,
      sequence_end: sequence.end ?? false,
    }),
  };
}

/** Parameters that say where a tensor lies. */
export function sharedMemoryParameters({ region, byteSize, offset }: SharedMemory): Record<string, ParameterValue> {
  return {
    shared_memory_region: region,
    shared_memory_byte_size: byteSize,
    ...(offset !== undefined && offset !== 0 && { shared_memory_offset: offset }),
  };
}

export function isShared(input: Tensor | SharedInput): input is SharedInput {
  return 'sharedMemory' in input;
}
