import { MAX_LOGPROBS, type DeviceModel, type StepResult } from '../src/device/device.ts';
import type { Batch } from '../src/engine/batch.ts';
import { GREEDY, type EngineRequest, type GenerateCommand } from '../src/engine/request.ts';
import type { ModelSpec } from '../src/model/spec.ts';

/** A decoder's spec as far as an engine looks at it. */
export function decoderSpec(contextLength: number, vocabSize = 100): ModelSpec {
  return {
    architecture: 'fake',
    vocabSize,
    hiddenSize: 8,
    contextLength,
    embedding: { positions: 0, types: 0, norm: undefined },
    blocks: [],
    finalNorm: undefined,
    head: { kind: 'logits', tied: true },
  };
}

/**
 * A device without arithmetic: the token after t is t + 1, and an encoder's vector is the sum of its tokens. It checks
 * what every device may rely on, and remembers what each page holds, as real keys and values would.
 */
export class FakeModel implements DeviceModel {
  readonly capacity: DeviceModel['capacity'];
  readonly pages: number;
  readonly pageTokens = 16;
  readonly memory = { weights: 0, sequences: 0, workspace: 0 };
  readonly vocabSize: number;
  steps: { rows: number; sequences: number; outputs: number }[] = [];
  failNext: Error | undefined;
  closed = false;
  readonly #held = new Map<number, Int32Array>();

  constructor(options: { rows: number; sequences: number; pages: number; vocabSize?: number }) {
    const { rows, sequences, pages } = options;
    this.capacity = { rows, sequences, pages: sequences * Math.max(pages, 1) + rows };
    this.pages = pages;
    this.vocabSize = options.vocabSize ?? 100;
  }

  step(batch: Batch): StepResult {
    if (this.failNext !== undefined) {
      const error = this.failNext;
      this.failNext = undefined;
      throw error;
    }
    this.steps.push({ rows: batch.rows, sequences: batch.sequences, outputs: batch.outputs });
    this.#check(batch);
    const tokens = new Int32Array(this.capacity.sequences);
    for (let o = 0; o < batch.outputs; o++) tokens[o] = (batch.tokens[batch.outputRows[o]] + 1) % this.vocabSize;
    const values = new Float32Array(this.capacity.sequences);
    for (let s = 0; s < batch.sequences; s++) {
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) values[s] += batch.tokens[row];
    }
    return {
      values,
      width: 1,
      tokens,
      logprobs: new Float32Array(this.capacity.sequences),
      topTokens: new Int32Array(this.capacity.sequences * MAX_LOGPROBS).fill(-1),
      topLogprobs: new Float32Array(this.capacity.sequences * MAX_LOGPROBS),
    };
  }

  close(): void {
    this.closed = true;
  }

  /** Rows land in their own pages, two sequences never share one, and positions continue what the pages hold. */
  #check(batch: Batch): void {
    if (batch.rows > this.capacity.rows) throw new Error('more rows than the capacity');
    const owner = new Map<number, number>();
    for (let s = 0; s < batch.sequences; s++) {
      const pages = batch.pageTable.subarray(batch.pageStart[s], batch.pageStart[s + 1]);
      for (const page of pages) {
        if (owner.has(page)) throw new Error(`page ${page} belongs to two sequences`);
        owner.set(page, s);
      }
      for (let row = batch.rowStart[s]; row < batch.rowStart[s + 1]; row++) {
        const position = batch.start[s] + row - batch.rowStart[s];
        if (batch.positions[row] !== position) throw new Error('a row at a wrong position');
        const page = pages[Math.floor(position / this.pageTokens)];
        if (page === undefined) throw new Error(`position ${position} has no page`);
        const held = this.#held.get(page) ?? new Int32Array(this.pageTokens);
        held[position % this.pageTokens] = batch.tokens[row];
        this.#held.set(page, held);
      }
    }
  }
}

export function generateRequest(
  id: number,
  tokens: readonly number[],
  command: Partial<GenerateCommand> = {},
  request: Partial<EngineRequest> = {},
): EngineRequest {
  return {
    id,
    model: 0,
    priority: 0,
    deadline: undefined,
    command: {
      kind: 'generate',
      tokens: Int32Array.from(tokens),
      sampling: GREEDY,
      maxTokens: 5,
      minTokens: 0,
      stopTokens: [],
      logprobs: -1,
      ...command,
    },
    ...request,
  };
}
