import type { ErrorCode, ModelConfig, ParameterValue, Sequence } from './api.ts';
import type { Packet, WireTensor } from './packet.ts';

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

/** A request as a packet holds it. */
export interface WireRequest {
  /** Unique among the requests of an instance. */
  readonly number: number;
  readonly id: string;
  readonly inputs: readonly WireTensor[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: Parameters | undefined;
  readonly sequence: Sequence | undefined;
}

/** Undefined travels for none: most requests and responses have none. */
export type Parameters = Readonly<Record<string, ParameterValue>>;

export interface WireResponse {
  readonly outputs: readonly WireTensor[];
  readonly parameters: Parameters | undefined;
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

/** A request of a model to another one. */
export interface WireCall {
  readonly call: number;
  readonly model: string;
  readonly version: string;
  readonly inputs: readonly WireTensor[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: Parameters;
}

export type ToInstance =
  /** Batches: lists of requests, as `exchange.ts` writes them. */
  | { readonly kind: 'execute'; readonly batches: number; readonly packet: Packet }
  | { readonly kind: 'cancel'; readonly request: number }
  /** So many responses of a decoupled request were taken. */
  | { readonly kind: 'taken'; readonly request: number; readonly count: number }
  /** An outcome of a call. */
  | { readonly kind: 'answer'; readonly call: number; readonly packet: Packet }
  | { readonly kind: 'answered'; readonly call: number }
  | { readonly kind: 'close' };

export type FromInstance =
  | { readonly kind: 'completed'; readonly config: ModelConfig }
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly error: WireError }
  /** `execute` has returned for the next batches: of each, in order, its times and what came of it. */
  | { readonly kind: 'executed'; readonly batches: number; readonly packet: Packet }
  /** An outcome of a decoupled request. */
  | { readonly kind: 'response'; readonly request: number; readonly packet: Packet }
  | { readonly kind: 'end'; readonly request: number }
  /** States that a request has set, a list; `again`: it is to be executed again, whatever its outcome says. */
  | { readonly kind: 'update'; readonly request: number; readonly again: boolean; readonly packet: Packet }
  | ({ readonly kind: 'call'; readonly packet: Packet } & Omit<WireCall, 'inputs'>)
  | { readonly kind: 'cancelCall'; readonly call: number }
  | { readonly kind: 'closed' };

/** Nanoseconds of a clock that does not go back and is the same in every thread. */
export function now(): number {
  return Number(process.hrtime.bigint());
}
