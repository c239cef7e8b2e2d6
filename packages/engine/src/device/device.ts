import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Batch, BatchCapacity } from '../engine/batch.ts';

/** A place where plans run. One device serves several models; its steps run one after the other. */
export interface Device {
  /** For people, such as `cpu (2 threads, wide tiles)`. */
  readonly description: string;
  /** Compile the checkpoint's plan and stream its weights into memory. Leaves nothing behind when it throws. */
  load(checkpoint: Checkpoint, options: LoadOptions): Promise<DeviceModel>;
  close(): Promise<void>;
}

export interface LoadOptions {
  readonly quantize: 'int8' | 'int4' | undefined;
  /** Hold all weights in float32 (the exactness tests' reference mode). */
  readonly upcast?: boolean;
  readonly cacheDtype: 'f32' | 'bf16';
  /** Sequences that may run together. */
  readonly maxSequences: number;
  /** Rows of a step; raised to the context length for encoders, whose sequences cannot be cut. */
  readonly maxRows: number;
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

/** A model on a device: its weights, its pages and its compiled plan. */
export interface DeviceModel {
  readonly capacity: BatchCapacity;
  /** Pages for keys and values; 0 for encoders, whose pages live for one step inside the workspace. */
  readonly pages: number;
  readonly pageTokens: number;
  readonly memory: MemoryReport;
  /** Run one step. The result is overwritten by the next. A device that computes elsewhere returns a promise. */
  step(batch: Batch): StepResult | Promise<StepResult>;
  close(): void;
}

export interface MemoryReport {
  /** Bytes of weights, of pages, and of buffers and scratch. */
  readonly weights: number;
  readonly sequences: number;
  readonly workspace: number;
}

/** What a step computed. Views of memory that the next step overwrites. */
export interface StepResult {
  /** The plan's result: logits [outputs, vocabSize], vectors or label logits [sequences, width]. */
  readonly values: Float32Array;
  readonly width: number;
  /** Decoders: the token drawn for each output. */
  readonly tokens: Int32Array;
  /** Log-probability of each drawn token, where it was asked for. */
  readonly logprobs: Float32Array;
  /** The most likely tokens of each output: MAX_LOGPROBS a row, -1 behind the last one. */
  readonly topTokens: Int32Array;
  readonly topLogprobs: Float32Array;
}

/** Most alternatives a request can ask for (OpenAI's limit). */
export const MAX_LOGPROBS = 20;
