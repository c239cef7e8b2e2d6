import type { ErrorCode, ModelConfig, ParameterValue, Sequence } from './api.ts';
import type { WireTensor } from './wire.ts';

/** What an instance's thread is started with. */
export interface InstanceData {
  /** The model's file. */
  readonly file: string;
  /** Only load the class and let it complete this configuration. */
  readonly complete: boolean;
  readonly config: ModelConfig;
  readonly name: string;
  readonly version: string;
  readonly directory: string;
  readonly instance: number;
}

export interface WireRequest {
  /** Unique among the requests of an instance. */
  readonly number: number;
  readonly id: string;
  readonly inputs: readonly WireTensor[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly sequence: Sequence | undefined;
}

export interface WireResponse {
  readonly outputs: readonly WireTensor[];
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
}

export type WireOutcome = { readonly response: WireResponse } | { readonly error: WireError };

/** Nanoseconds of the clock that all threads share. */
export interface ExecuteTimes {
  /** When the instance turned to the batch. */
  readonly begun: number;
  readonly computeStart: number;
  readonly computeEnd: number;
}

/** What came of a batch. */
export interface ExecuteResult {
  readonly times: ExecuteTimes;
  /** Undefined: the model is decoupled and answers on its own. */
  readonly outcomes: readonly WireOutcome[] | undefined;
}

/** A request of a model to another one. */
export interface WireCall {
  readonly call: number;
  readonly model: string;
  readonly version: string;
  readonly inputs: readonly WireTensor[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}

export type ToInstance =
  | { readonly kind: 'execute'; readonly batches: readonly (readonly WireRequest[])[] }
  | { readonly kind: 'cancel'; readonly request: number }
  /** So many responses of a decoupled request were taken. */
  | { readonly kind: 'taken'; readonly request: number; readonly count: number }
  | { readonly kind: 'answer'; readonly call: number; readonly outcome: WireOutcome }
  | { readonly kind: 'answered'; readonly call: number }
  | { readonly kind: 'close' };

export type FromInstance =
  | { readonly kind: 'completed'; readonly config: ModelConfig }
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly error: WireError }
  /** `execute` has returned for the next batches, in their order. */
  | { readonly kind: 'executed'; readonly results: readonly ExecuteResult[] }
  | { readonly kind: 'response'; readonly request: number; readonly outcome: WireOutcome }
  | { readonly kind: 'end'; readonly request: number }
  | ({ readonly kind: 'call' } & WireCall)
  | { readonly kind: 'cancelCall'; readonly call: number }
  | { readonly kind: 'closed' };

/** Nanoseconds of a clock that does not go back and is the same in every thread. */
export function now(): number {
  return Number(process.hrtime.bigint());
}
