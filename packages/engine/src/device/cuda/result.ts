import { SAMPLE_FACTS, SAMPLE_TOP, SampleFact as Fact } from '@rose/kernels';
import { WEIGHT_BITS } from '@rose/kernels/weight';
import type { Batch } from '../../engine/batch.ts';
import { MAX_LOGPROBS, type StepResult } from '../device.ts';
import type { Gpu, GpuRange, GpuStream, PinnedBlock } from './gpu.ts';
import { toldPlaces, type CudaSampler } from './sampler.ts';

/** What was asked of rows, and what came: see the kernel `sample_logprobs`. */
interface Told {
  count: number;
  /** How many of the most likely tokens; -1: nothing was asked. */
  readonly asked: Int32Array;
  readonly facts: Int32Array;
  readonly factFloats: Float32Array;
  readonly top: Int32Array;
  readonly topFloats: Float32Array;
}

/** A step's result on its way to the host, in pinned memory. */
export class CudaResult {
  readonly #pinned: PinnedBlock;
  readonly #tokensAt: number;
  readonly #targetsAt: number;
  readonly #result: StepResult;
  readonly #reads: boolean;
  readonly #outputs: Told;
  readonly #targets: Told;

  /**
   * @param rows rows of values and of tokens
   * @param targets most targets of a step; 0: nothing is drawn either
   * @param reads whether values are wanted: logits stay on the GPU but in tests
   */
  constructor(gpu: Gpu, rows: number, targets: number, width: number, reads: boolean) {
    const values = reads ? rows * width : 0;
    this.#reads = reads;
    this.#tokensAt = 4 * values;
    const places = toldPlaces(rows);
    this.#targetsAt = this.#tokensAt + places.bytes;
    this.#pinned = gpu.pinned(this.#targetsAt + 4 * targets * (SAMPLE_FACTS + 2 * SAMPLE_TOP));
    const { buffer } = this.#pinned;
    this.#outputs = toldIn(buffer, this.#tokensAt + places.facts, this.#tokensAt + places.top, rows);
    this.#targets = toldIn(buffer, this.#targetsAt, this.#targetsAt + 4 * targets * SAMPLE_FACTS, targets);
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

  /** Copy here what the step leaves. `sampler`: of a decoder. */
  take(stream: GpuStream, values: GpuRange, sampler: CudaSampler | undefined, batch: Batch): void {
    const { outputs, sequences, targets } = batch;
    const rows = sampler === undefined ? sequences : outputs;
    if (this.#reads) stream.download(this.#pinned, 0, values.slice(0, 4 * rows * this.#result.width));
    this.#outputs.count = 0;
    this.#targets.count = 0;
    if (sampler === undefined) return;
    if (sampler.asks) {
      stream.download(this.#pinned, this.#tokensAt, sampler.told);
      this.#outputs.count = outputs;
      for (let o = 0; o < outputs; o++) this.#outputs.asked[o] = batch.logprobs[o];
    } else if (outputs > 0) stream.download(this.#pinned, this.#tokensAt, sampler.drawn.slice(0, 4 * outputs));
    if (targets === 0) return;
    const { facts, top } = sampler.targets;
    stream.download(this.#pinned, this.#targetsAt, facts.slice(0, 4 * targets * SAMPLE_FACTS));
    stream.download(this.#pinned, this.#targetsAt + facts.bytes, top.slice(0, 8 * targets * SAMPLE_TOP));
    this.#targets.count = targets;
    for (let t = 0; t < targets; t++) this.#targets.asked[t] = batch.targetTop[t];
  }

  /** What came, once it is there. */
  get result(): StepResult {
    const r = this.#result;
    for (let o = 0; o < this.#outputs.count; o++) {
      report(this.#outputs, o, r.width, r.logprobs, undefined, r.topTokens, r.topLogprobs);
    }
    for (let t = 0; t < this.#targets.count; t++) {
      report(this.#targets, t, r.width, r.targetLogprobs, r.targetRanks, r.targetTopTokens, r.targetTopLogprobs);
    }
    return r;
  }
}

function toldIn(buffer: ArrayBuffer, facts: number, top: number, rows: number): Told {
  return {
    count: 0,
    asked: new Int32Array(rows),
    facts: new Int32Array(buffer, facts, rows * SAMPLE_FACTS),
    factFloats: new Float32Array(buffer, facts, rows * SAMPLE_FACTS),
    top: new Int32Array(buffer, top, rows * 2 * SAMPLE_TOP),
    topFloats: new Float32Array(buffer, top, rows * 2 * SAMPLE_TOP),
  };
}

/** Log-probabilities of a row, in float64 from the kernel's exact sum of weights. */
function report(
  { asked, facts, factFloats, top, topFloats }: Told,
  row: number,
  vocabulary: number,
  logprobs: Float32Array,
  ranks: Int32Array | undefined,
  topTokens: Int32Array,
  topLogprobs: Float32Array,
): void {
  if (asked[row] < 0) return;
  const at = row * SAMPLE_FACTS;
  const to = row * MAX_LOGPROBS;
  topTokens.fill(-1, to, to + MAX_LOGPROBS);
  const rank = facts[at + Fact.RANK];
  if (ranks !== undefined) ranks[row] = rank;
  // Without a finite maximum there are no probabilities.
  logprobs[row] = Number.NaN;
  if (rank === 0) return;
  const sum = (facts[at + Fact.SUM_HIGH] >>> 0) * 2 ** 32 + (facts[at + Fact.SUM] >>> 0);
  const logSum = factFloats[at + Fact.MAXIMUM] + Math.log(sum / 2 ** WEIGHT_BITS);
  logprobs[row] = factFloats[at + Fact.LOGIT] - logSum;
  const from = row * 2 * SAMPLE_TOP;
  for (let i = 0; i < Math.min(asked[row], vocabulary); i++) {
    topTokens[to + i] = top[from + i];
    topLogprobs[to + i] = topFloats[from + SAMPLE_TOP + i] - logSum;
  }
}
