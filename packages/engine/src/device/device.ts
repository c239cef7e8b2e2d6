import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Batch, BatchCapacity } from '../engine/batch.ts';
import type { CacheShape } from '../engine/kv-cache.ts';
import type { OnPhase } from './phase.ts';

/** A place where plans run. One device serves several models; its steps run one after the other. */
export interface Device {
  /** For people, such as `cpu (2 threads, wide tiles)`. */
  readonly description: string;
  /** What is taken where nobody chooses. */
  readonly defaults: DeviceDefaults;
  /** Compile the checkpoint's plan and stream its weights into memory. Leaves nothing behind when it throws. */
  load(checkpoint: Checkpoint, options: LoadOptions): Promise<DeviceModel>;
  /** Why this process cannot use the device any more; undefined: it can. */
  readonly lost?: Error | undefined;
  close(): Promise<void>;
}

export interface DeviceDefaults {
  readonly maxSequences: number;
  readonly maxRows: number;
  /** `overlapped` where the device computes beside the engine's own thread. */
  readonly loop: 'plain' | 'overlapped';
}

/** Weights in fewer bits than the checkpoint has. */
export type Quantization = 'int8' | 'int4' | 'fp8';
/** What weights are held in, and computed with where the device has that choice; `auto`: as the checkpoint has them. */
export type WeightDtype = 'auto' | 'bf16' | 'f16' | 'f32';
/** How keys and values of the context are held. */
export type CacheFormat = 'f32' | 'bf16' | 'f16' | 'fp8';

/** A device refuses what it does not do with RoseError `unsupported`. */
export interface LoadOptions {
  readonly quantize: Quantization | undefined;
  /** Default `auto`. With `f32` all weights are float32: the reference that others are held against. */
  readonly dtype?: WeightDtype;
  /** Default: what suits the device. */
  readonly cacheDtype: CacheFormat | undefined;
  /** Run steps of answers from captured graphs where the device has them, to the same bits. Default true. */
  readonly graphs?: boolean;
  /** Decoders: bring the logits to the host (`values` of a step's result). The CPU device always does. Default false. */
  readonly readLogits?: boolean;
  /** Share of the device's memory that the model may take, 0 to 1; undefined: what suits the device. */
  readonly memoryShare?: number;
  /** Bytes of keys and values at most, in MiB; undefined: what suits the device. */
  readonly kvCacheMib?: number;
  /** Models that are to come to the same device, where none says its share. */
  readonly toCome?: readonly ModelToCome[];
  /** Sequences that may run together. */
  readonly maxSequences: number;
  /** Rows of a step; raised to the context length for encoders, whose sequences cannot be cut. */
  readonly maxRows: number;
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
  readonly onPhase?: OnPhase;
}

/** What a model that is yet to be loaded will want, as far as its configuration tells. */
export interface ModelToCome {
  readonly parameters: number;
  /** Whether it keeps pages: it gets as much room for them as each other decoder. */
  readonly decoder: boolean;
}

/** A model on a device: its weights, its pages and its compiled plan. */
export interface DeviceModel {
  readonly capacity: BatchCapacity;
  /** Pages for keys and values by layer group; none for encoders, whose pages live for one step inside the workspace. */
  readonly cache: CacheShape;
  readonly memory: MemoryReport;
  /** What its owner should know of how it is run; sentences, often none. */
  readonly notes?: readonly string[];
  /**
   * Whether rows of answers go another way than rows of prompts, and so come to other bits: then a token's row must be what
   * it was at first whenever it is computed again, and what an answer left in its pages serves no prompt.
   */
  readonly answersApart: boolean;
  /**
   * Run one step: its copies, then its rows. A device that computes elsewhere returns a promise, and takes the next step
   * before that is fulfilled; steps run in the order in which they are given. A result is overwritten by the next step
   * but one.
   */
  step(batch: Batch): StepResult | Promise<StepResult>;
  close(): void;
}

export interface MemoryReport {
  /** Bytes of weights, of pages, and of buffers and scratch. */
  readonly weights: number;
  readonly sequences: number;
  readonly workspace: number;
  /** Of a GPU's model: bytes of the host's memory that copies go to and come from, which the system cannot swap out. */
  readonly pinned?: number;
  /** The pages by layer group; empty for encoders. */
  readonly pages: readonly PageReport[];
}

export interface PageReport {
  /** undefined: full attention. */
  readonly window: number | undefined;
  readonly layers: number;
  readonly pages: number;
  /** Tokens that the pages hold. */
  readonly tokens: number;
  readonly bytes: number;
}

/** What a step computed. Views of memory that the next step but one overwrites. */
export interface StepResult {
  /** The plan's result: logits [outputs, vocabSize] (see LoadOptions.readLogits), vectors or label logits [sequences, width]. */
  readonly values: Float32Array;
  readonly width: number;
  /** Decoders: the token drawn for each output. */
  readonly tokens: Int32Array;
  /** Log-probability of each drawn token, where it was asked for. */
  readonly logprobs: Float32Array;
  /** The most likely tokens of each output: MAX_LOGPROBS a row, -1 behind the last one. */
  readonly topTokens: Int32Array;
  readonly topLogprobs: Float32Array;
  /** For each target: its log-probability, its rank (0: the row has no finite maximum), and the most likely tokens. */
  readonly targetLogprobs: Float32Array;
  readonly targetRanks: Int32Array;
  readonly targetTopTokens: Int32Array;
  readonly targetTopLogprobs: Float32Array;
}

/** Most alternatives a request can ask for (OpenAI's limit). */
export const MAX_LOGPROBS = 20;
