import type { Batch } from '../../engine/batch.ts';
import { MAX_LOGPROBS, type StepResult } from '../device.ts';
import type { Gpu, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';

/** A step's result on its way to the host, in pinned memory. */
export class CudaResult {
  readonly #pinned: PinnedBlock;
  readonly #tokensAt: number;
  readonly #result: StepResult;
  readonly #reads: boolean;

  /**
   * @param rows rows of values and of tokens
   * @param reads whether values are wanted: logits stay on the GPU but in tests
   */
  constructor(gpu: Gpu, rows: number, targets: number, width: number, reads: boolean) {
    const values = reads ? rows * width : 0;
    this.#reads = reads;
    this.#tokensAt = 4 * values;
    this.#pinned = gpu.pinned(Math.max(4, 4 * (values + rows)));
    const { buffer } = this.#pinned;
    this.#result = {
      values: new Float32Array(buffer, 0, values),
      width,
      tokens: new Int32Array(buffer, this.#tokensAt, rows),
      logprobs: new Float32Array(rows),
      topTokens: new Int32Array(rows * MAX_LOGPROBS),
      topLogprobs: new Float32Array(rows * MAX_LOGPROBS),
      targetLogprobs: new Float32Array(targets),
      targetRanks: new Int32Array(targets),
      targetTopTokens: new Int32Array(targets * MAX_LOGPROBS),
      targetTopLogprobs: new Float32Array(targets * MAX_LOGPROBS),
    };
  }

  /** Copy here what the step leaves. */
  take(stream: GpuStream, values: GpuRange, drawn: GpuRange, { outputs, sequences }: Batch, decoder: boolean): void {
    const rows = decoder ? outputs : sequences;
    if (this.#reads) stream.download(this.#pinned, 0, values.slice(0, 4 * rows * this.#result.width));
    if (decoder && outputs > 0) stream.download(this.#pinned, this.#tokensAt, drawn.slice(0, 4 * outputs));
  }

  get result(): StepResult {
    return this.#result;
  }

  free(): void {
    this.#pinned.free();
  }
}
