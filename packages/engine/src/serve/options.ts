import type { RoseError } from '../errors.ts';
import type { DialectOptions } from '../answer/dialect.ts';
import type { CacheFormat, Quantization, WeightDtype } from '../device/device.ts';
import type { Phase } from '../device/phase.ts';

/** What to load and where. */
export interface OpenOptions {
  readonly models: readonly ModelSource[];
  /**
   * `cpu`, `cuda` (the first GPU), `cuda:N`, or `auto`: the first GPU where there is one, else the CPU. Default: what
   * ROSE_DEVICE says, else `cpu`.
   */
  readonly device?: string;
  /**
   * Where the engine lives: in a thread of this process, or in a process of its own, whose end is not that of this one.
   * Default `thread`; `rose serve` uses `process`.
   */
  readonly engine?: 'thread' | 'process';
  /** CPU threads that compute; not for a GPU. Default: the machine's cores, 16 at most. */
  readonly threads?: number;
  /** Weights in fewer bits; undefined keeps the checkpoint's. `int8` and `int4` on the CPU, `fp8` on GPUs. */
  readonly quantize?: Quantization;
  /**
   * What weights are held in. Default `auto`: as in the checkpoint, but float16 as float32 on the CPU and float32 as
   * bfloat16 on GPUs. `f32` everywhere is the exactest; `bf16` and `f16` only on GPUs.
   */
  readonly dtype?: WeightDtype;
  /** Keys and values of the context: `f32` or `bf16` on the CPU. Default: f32; on a GPU what weights are held in. */
  readonly cacheDtype?: CacheFormat;
  /**
   * Share of the memory of the machine, or of the GPU, that each model may take, above 0, at most 1. Default on the CPU:
   * pages of 1 GiB at most; on a GPU: what is free, less what the models behind it will want.
   */
  readonly memoryShare?: number;
  /**
   * MiB that each model's keys and values may take, where that is less than what there is room for. Default on the CPU:
   * 1024, or one full context; on a GPU: no such limit.
   */
  readonly kvCacheMib?: number;
  /** Sequences that run together. Default: 32 on the CPU, 128 on a GPU. */
  readonly maxSequences?: number;
  /** Rows of a step: running answers and prompt tokens. Default: 512 on the CPU, 4096 on a GPU. */
  readonly maxRows?: number;
  /** Requests that may wait for each model; one more is refused with `overloaded`. Default 1024. */
  readonly queueLimit?: number;
  /** A request that has not begun after so long is refused with `unavailable`. Default: none is. */
  readonly queueTimeoutMs?: number;
  /**
   * Milliseconds that a step may take while answers are being written: prompt tokens fill it up to there. Default: 1.33 to
   * 1.6 times what the running answers alone would take, the less the more unevenly the machine runs, and more where more
   * prompts than answers are under way.
   */
  readonly stepMs?: number;
  /** Which loop runs steps; both give the same bits. Default: what suits the device. */
  readonly loop?: 'plain' | 'overlapped';
  /** Gives the opening up: it rejects with the signal's reason, and nothing is left running. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: OpenProgress) => void;
  /**
   * How many times an engine that is lost is started again, with all its models. Meanwhile requests are refused with
   * `unavailable`, and the hub is not ready. Default 0. A device that a thread's engine has broken for the whole process
   * stays broken: only an engine in a process of its own gets over that.
   */
  readonly restarts?: number;
  /**
   * Called if the engine is lost: its thread or process ended. Every request has failed with this error. `final`: it is
   * not started again, and the hub is never ready any more.
   */
  readonly onLost?: (error: RoseError, final: boolean) => void;
  /** Called when an engine that was lost is ready again, so many milliseconds later. */
  readonly onRestart?: (milliseconds: number) => void;
  /** Called when a step of a model failed, with the reason; requests that it was not the fault of go on. */
  readonly onStepFailure?: (model: string, reason: string) => void;
}

export interface ModelSource {
  /** The name clients use. */
  readonly name: string;
  /** A model directory (see `resolveModel` for hub names). */
  readonly directory: string;
  /** How the model writes calls of tools and reasoning, where its chat template does not tell. */
  readonly dialect?: DialectOptions;
}

export type OpenProgress =
  | { readonly kind: 'device'; readonly description: string }
  | { readonly kind: 'weights'; readonly model: string; readonly bytes: number; readonly totalBytes: number }
  /** A part of the start is done; some are of one model, others of all. */
  | { readonly kind: 'phase'; readonly model: string | undefined; readonly phase: Phase }
  | { readonly kind: 'ready'; readonly model: string; readonly milliseconds: number };
