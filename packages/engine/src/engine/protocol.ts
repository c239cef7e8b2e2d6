import type { SerializedError } from '../errors.ts';
import type { LoadOptions, MemoryReport } from '../device/device.ts';
import type { DeviceChoice } from '../device/open.ts';
import type { Phase } from '../device/phase.ts';
import type { EngineState } from './engine.ts';
import type { EngineEvent, EngineRequest } from './request.ts';

/**
 * The messages of an engine's channel. They are plain data, so the engine can be a worker thread or a child process:
 * nobody else can tell the difference. Calls carry a number; their reply carries it back.
 */
export type ToEngine =
  | { readonly kind: 'open'; readonly call: number; readonly choice: DeviceChoice }
  | { readonly kind: 'load'; readonly call: number; readonly model: number; readonly options: EngineLoadOptions }
  | { readonly kind: 'unload'; readonly call: number; readonly model: number }
  /** Answered with the model numbers whose last step failed, after a canary step of each idle model. */
  | { readonly kind: 'probe'; readonly call: number }
  | { readonly kind: 'submit'; readonly request: EngineRequest }
  | { readonly kind: 'cancel'; readonly model: number; readonly id: number }
  | { readonly kind: 'close'; readonly call: number };

export type FromEngine =
  | { readonly kind: 'reply'; readonly call: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly call: number; readonly error: SerializedError }
  | { readonly kind: 'progress'; readonly model: number; readonly bytes: number; readonly totalBytes: number }
  /** A part of the start is done. */
  | { readonly kind: 'phase'; readonly phase: Phase }
  | {
      readonly kind: 'step';
      readonly model: number;
      readonly sequences: number;
      readonly rows: number;
      /** Whether the device cannot run even the smallest step. */
      readonly failed: boolean;
      /** Why the step failed, if it did. */
      readonly fault: string | undefined;
      readonly state: EngineState;
      /** Tokens drawn, most of what there is to tell: token i is the next one of request ids[i]. */
      readonly ids: Float64Array;
      readonly tokens: Int32Array;
      readonly events: readonly EngineEvent[];
    };

export interface EngineLoadOptions {
  readonly directory: string;
  readonly quantize: LoadOptions['quantize'];
  readonly dtype: LoadOptions['dtype'] | undefined;
  readonly cacheDtype: LoadOptions['cacheDtype'];
  readonly memoryShare: number | undefined;
  readonly kvCacheMib: number | undefined;
  readonly toCome: LoadOptions['toCome'] | undefined;
  /** Default: the device's. */
  readonly maxSequences: number | undefined;
  readonly maxRows: number | undefined;
  /** Requests that may wait; one more is refused. */
  readonly queueLimit: number;
  readonly queueTimeoutMs: number | undefined;
  readonly stepMs: number | undefined;
  /** Default: the device's. */
  readonly loop: 'plain' | 'overlapped' | undefined;
}

/** What `load` answers. */
export interface LoadReport {
  readonly memory: MemoryReport;
  /** Most tokens a sequence can have on this device: the model's context, or less where its pages are fewer. */
  readonly contextLength: number;
  /** What the device says of how it runs the model. */
  readonly notes: readonly string[];
}

/** One end of a channel: a worker's port or a process's pipe. */
export interface Transport<Out, In> {
  post(message: Out): void;
  listen(receive: (message: In) => void): void;
}
