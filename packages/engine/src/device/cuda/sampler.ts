import { SAMPLE_FACTS, SAMPLE_TOP, SAMPLE_WORDS, sampleRowPitch, SampleField as Field } from '@rose/kernels';
import { weightScale } from '@rose/kernels/weight';
import type { Batch } from '../../engine/batch.ts';
import type { Gpu, GpuKernel, GpuLaunch, GpuMemory, GpuRange, GpuStream } from './gpu.ts';
import { CHANGE_WORDS, Histories, RESIDENT } from './histories.ts';
import { kernelNamed } from './kernels.ts';
import { StepWords } from './step-words.ts';

/** Words that every step has room for from the beginning, besides parameters and targets. */
const LIST_WORDS = 16384;
/** The first with clusters. */
const CLUSTERS = 90;
/** Logits of a row that one CTA's shared memory holds on every GPU. */
const SMALL_VOCABULARY = 16384;

export interface SamplerSizes {
  readonly vocabulary: number;
  /** Outputs of a step, and targets. */
  readonly outputs: number;
  readonly targets: number;
  /** Rows of logits at a time. */
  readonly rows: number;
  readonly sequences: number;
}

/** Where the launches write what is asked of probabilities: i32 [count, SAMPLE_FACTS] and [count, 2 * SAMPLE_TOP]. */
interface Asked {
  readonly facts: GpuRange;
  readonly top: GpuRange;
}

/**
 * Draws a step's tokens on the GPU: the kernels `sample` and, where log-probabilities are asked for, `sample_logprobs`. A
 * step's parameters go there in one copy before its rows are computed; masks of grammars, which may be late, in another one
 * before the draw. Tokens stay on the GPU for the next step.
 */
export class CudaSampler {
  /** i32 [outputs]: what was drawn; -1: the row has no finite maximum. */
  readonly drawn: GpuRange;
  /** `drawn` and behind it what is asked of outputs: what a step with log-probabilities gives, in one piece. */
  readonly told: GpuRange;
  readonly outputs: Asked;
  readonly targets: Asked;
  readonly #vocabulary: number;
  readonly #maskWords: number;
  readonly #step: StepWords;
  readonly #masks: StepWords;
  readonly #history: GpuMemory;
  readonly #results: GpuMemory;
  readonly #scratch: GpuMemory | undefined;
  readonly #histories: Histories;
  readonly #kernels: Readonly<Record<'any' | 'greedy' | 'logprobs' | 'change', GpuKernel>>;
  readonly #launches: Readonly<Record<'any' | 'greedy' | 'logprobs' | 'change', GpuLaunch>>;
  /** Of the step at hand: whether all outputs take the most likely token, whether anything is asked, and where it says what. */
  #plain = true;
  #asks = false;
  #askedAt = 0;
  #targetsAt = 0;
  /** First word of the grammars' masks. */
  #grammarsAt = 0;

  constructor(gpu: Gpu, logits: GpuRange, sizes: SamplerSizes) {
    const { vocabulary, outputs, targets, rows, sequences } = sizes;
    this.#vocabulary = vocabulary;
    this.#maskWords = Math.ceil(vocabulary / 32);
    this.#step = new StepWords(gpu, stepWords(sizes));
    this.#masks = new StepWords(gpu, maskStride(vocabulary));
    this.#history = gpu.alloc(historyBytes(sizes));
    this.#histories = new Histories(sequences, residentOf(vocabulary));
    this.#results = gpu.alloc(resultBytes(sizes));
    let at = 0;
    const part = (words: number): GpuRange => {
      const range = this.#results.slice(at, 4 * words);
      at += align(4 * words);
      return range;
    };
    this.drawn = part(outputs);
    this.outputs = { facts: part(outputs * SAMPLE_FACTS), top: part(outputs * 2 * SAMPLE_TOP) };
    this.told = this.#results.slice(0, at);
    this.targets = { facts: part(targets * SAMPLE_FACTS), top: part(targets * 2 * SAMPLE_TOP) };
    const held = heldBy(gpu, vocabulary);
    this.#scratch = held === 'global' ? gpu.alloc(scratchBytes(sizes)) : undefined;

    const words = stepWords(sizes);
    const dims = { rows, vocabulary, words, history: historyBytes(sizes) / 4, masks: this.#maskWords };
    const sample = kernelNamed('sample');
    this.#kernels = {
      any: gpu.load(sample, { dims, options: { held } }),
      greedy: gpu.load(sample, { dims, options: { held, choice: 'greedy' } }),
      logprobs: gpu.load(kernelNamed('sample_logprobs'), { dims: { rows, vocabulary }, options: { held } }),
      change: gpu.load(kernelNamed('sample_history'), { dims: { count: words, entries: dims.history / 2 } }),
    };
    const row = this.#scratch === undefined ? {} : { row: this.#scratch };
    const { any, greedy, logprobs, change } = this.#kernels;
    const step = this.#step.range();
    this.#launches = {
      any: any.prepare({ logits, step, history: this.#history, masks: this.#masks.range(), ...row, token: this.drawn }),
      greedy: greedy.prepare({ logits, token: this.drawn }),
      logprobs: logprobs.prepare({ logits, asked: step, token: this.drawn, ...row, ...this.outputs }),
      change: change.prepare({ changes: step, history: this.#history, count: 0 }),
    };
  }

  /** Bytes of the GPU's memory that a sampler takes. */
  static bytes(gpu: Gpu, sizes: SamplerSizes): number {
    const scratch = heldBy(gpu, sizes.vocabulary) === 'global' ? scratchBytes(sizes) : 0;
    const words = stepWords(sizes) + maskStride(sizes.vocabulary);
    return 4 * words + historyBytes(sizes) + resultBytes(sizes) + scratch;
  }

  /** Whether the step at hand asks for log-probabilities of what is drawn. */
  get asks(): boolean {
    return this.#asks;
  }

  /** Send what the step's draws depend on, but for masks of grammars. */
  begin(batch: Batch, stream: GpuStream): void {
    this.#step.begin();
    this.#masks.begin();
    this.#histories.begin();
    this.#look(batch);
    if (!this.#plain) this.#writeParameters(batch);
    if (this.#asks) this.#writeAsked(batch);
    if (batch.targets > 0) this.#writeTargets(batch);
    const { changed, changes } = this.#histories;
    const changesAt = this.#step.reserve(CHANGE_WORDS * changed);
    this.#step.words.set(changes.subarray(0, CHANGE_WORDS * changed), changesAt);
    this.#step.send(stream);
    if (changed === 0) return;
    this.#launches.change
      .point('changes', this.#step.range(changesAt))
      .set('count', changed)
      .grid(...this.#kernels.change.gridFor({ count: changed }))
      .run(stream);
  }

  /** Draw from the logits that the stream has made of the batch's outputs. Waits for the masks of grammars. */
  draw(batch: Batch, stream: GpuStream): void {
    const rows = { rows: batch.outputs };
    if (this.#plain) this.#launches.greedy.grid(...this.#kernels.greedy.gridFor(rows)).run(stream);
    else {
      this.#writeGrammars(batch);
      this.#masks.send(stream);
      this.#launches.any
        .point('step', this.#step.range())
        .point('masks', this.#masks.range())
        .grid(...this.#kernels.any.gridFor(rows))
        .run(stream);
    }
    if (!this.#asks) return;
    this.#launches.logprobs
      .point('asked', this.#step.range(this.#askedAt))
      .point('token', this.drawn)
      .point('facts', this.outputs.facts)
      .point('top', this.outputs.top)
      .grid(...this.#kernels.logprobs.gridFor(rows))
      .run(stream);
  }

  /** Judge targets [from, from + count) of the batch by the logits at hand. `from` is a multiple of 4. */
  judge(batch: Batch, from: number, count: number, stream: GpuStream): void {
    const { facts, top } = this.targets;
    const tokensAt = this.#targetsAt + Math.ceil(batch.targets / 4) * 4;
    this.#launches.logprobs
      .point('asked', this.#step.range(this.#targetsAt + from))
      .point('token', this.#step.range(tokensAt + from))
      .point('facts', facts.slice(4 * SAMPLE_FACTS * from))
      .point('top', top.slice(8 * SAMPLE_TOP * from))
      .grid(...this.#kernels.logprobs.gridFor({ rows: count }))
      .run(stream);
  }

  #look(batch: Batch): void {
    this.#plain = true;
    this.#asks = false;
    for (let o = 0; o < batch.outputs; o++) {
      if (batch.logprobs[o] >= 0) this.#asks = true;
      const biased = batch.biasStart[o + 1] > batch.biasStart[o];
      const masked = batch.maskOf[o] >= 0 || batch.grammars[o] !== undefined;
      if (batch.temperature[o] !== 0 || biased || masked || batch.historySlot[o] >= 0) this.#plain = false;
    }
  }

  #writeParameters(batch: Batch): void {
    this.#step.reserve(batch.outputs * SAMPLE_WORDS);
    const stride = maskStride(this.#vocabulary);
    this.#masks.reserve(batch.masks * stride);
    for (let mask = 0; mask < batch.masks; mask++) {
      const from = mask * this.#maskWords;
      this.#masks.words.set(batch.maskBits.subarray(from, from + this.#maskWords), mask * stride);
    }
    this.#grammarsAt = this.#masks.used;
    let grammars = 0;
    for (let o = 0; o < batch.outputs; o++) {
      const slot = batch.historySlot[o];
      if (slot >= 0) this.#histories.tell(batch, o);
      const more = slot < 0 ? undefined : this.#histories.writeMore(slot, this.#step);
      const biases = this.#writeBiases(batch, o);
      // Lists may have moved the block.
      const { words, floats } = this.#step;
      const at = o * SAMPLE_WORDS;
      floats[at + Field.SCALE] = batch.temperature[o] === 0 ? 0 : weightScale(batch.temperature[o]);
      words[at + Field.TOP_K] = batch.topK[o] < this.#vocabulary ? batch.topK[o] : 0;
      floats[at + Field.TOP_P] = batch.topP[o];
      floats[at + Field.MIN_P] = batch.minP[o];
      words[at + Field.SEED] = (batch.seed[o] % 2 ** 32) | 0;
      words[at + Field.SEED_HIGH] = Math.floor(batch.seed[o] / 2 ** 32);
      words[at + Field.POSITION] = batch.drawPosition[o];
      floats[at + Field.REPETITION] = batch.repetitionPenalty[o];
      floats[at + Field.PRESENCE] = batch.presencePenalty[o];
      floats[at + Field.FREQUENCY] = batch.frequencyPenalty[o];
      words[at + Field.HISTORY_AT] = slot < 0 ? 0 : this.#histories.at(slot);
      words[at + Field.HISTORY_COUNT] = slot < 0 ? 0 : this.#histories.resident(slot);
      words[at + Field.MORE_AT] = more?.at ?? 0;
      words[at + Field.MORE_COUNT] = more?.count ?? 0;
      words[at + Field.BIAS_AT] = biases.at;
      words[at + Field.BIAS_COUNT] = biases.added;
      words[at + Field.FORBIDDEN_AT] = biases.at + 2 * biases.added;
      words[at + Field.FORBIDDEN_COUNT] = biases.forbidden;
      words[at + Field.MASK_AT] = batch.maskOf[o] < 0 ? -1 : batch.maskOf[o] * stride;
      words[at + Field.GRAMMAR_AT] = batch.grammars[o] === undefined ? -1 : this.#grammarsAt + stride * grammars++;
    }
  }

  /** Biases of an output, those that forbid behind those that are added. */
  #writeBiases(batch: Batch, o: number): { at: number; added: number; forbidden: number } {
    const [from, to] = [batch.biasStart[o], batch.biasStart[o + 1]];
    if (from === to) return NO_BIAS;
    const at = this.#step.reserve(2 * (to - from));
    const { words, floats } = this.#step;
    let added = 0;
    for (let i = from; i < to; i++) {
      if (batch.biasValues[i] === -Infinity) continue;
      words[at + 2 * added] = batch.biasTokens[i];
      floats[at + 2 * added + 1] = batch.biasValues[i];
      added++;
    }
    let forbidden = 0;
    for (let i = from; i < to; i++) {
      if (batch.biasValues[i] === -Infinity) words[at + 2 * added + forbidden++] = batch.biasTokens[i];
    }
    return { at, added, forbidden };
  }

  #writeAsked(batch: Batch): void {
    this.#askedAt = this.#step.reserve(batch.outputs);
    const { words } = this.#step;
    for (let o = 0; o < batch.outputs; o++) words[this.#askedAt + o] = batch.logprobs[o];
  }

  #writeTargets(batch: Batch): void {
    this.#targetsAt = this.#step.reserve(batch.targets);
    const tokensAt = this.#step.reserve(batch.targets);
    const { words } = this.#step;
    for (let t = 0; t < batch.targets; t++) {
      words[this.#targetsAt + t] = batch.targetTop[t];
      words[tokensAt + t] = batch.targetTokens[t];
    }
  }

  /** Without a mask no token is allowed. */
  #writeGrammars(batch: Batch): void {
    for (let o = 0; o < batch.outputs; o++) {
      const grammar = batch.grammars[o];
      if (grammar === undefined) continue;
      const at = this.#masks.reserve(this.#maskWords);
      const mask = grammar.wait();
      const { words } = this.#masks;
      if (mask === undefined) words.fill(0, at, at + this.#maskWords);
      else words.set(mask, at);
    }
  }
}

const NO_BIAS = { at: 0, added: 0, forbidden: 0 } as const;

/** Clusters hold rows in shared memory; on older GPUs only small vocabularies fit one CTA's. */
function heldBy({ arch }: Gpu, vocabulary: number): 'shared' | 'global' {
  const capability = Number(/\d+/.exec(arch)?.[0]);
  return capability >= CLUSTERS || vocabulary <= SMALL_VOCABULARY ? 'shared' : 'global';
}

function residentOf(vocabulary: number): number {
  return Math.min(RESIDENT, Math.ceil(vocabulary / 2) * 2);
}

function stepWords({ outputs, targets }: SamplerSizes): number {
  return outputs * (SAMPLE_WORDS + 8) + 2 * targets + LIST_WORDS;
}

/** Words from one mask to the next: as many as it has, to 16 bytes. */
function maskStride(vocabulary: number): number {
  return 4 * Math.ceil(vocabulary / 128);
}

function historyBytes({ vocabulary, sequences }: SamplerSizes): number {
  return 8 * residentOf(vocabulary) * sequences;
}

function scratchBytes({ vocabulary, rows }: SamplerSizes): number {
  return 4 * sampleRowPitch(vocabulary) * rows;
}

function resultBytes({ outputs, targets }: SamplerSizes): number {
  return toldPlaces(outputs).bytes + align(4 * targets * SAMPLE_FACTS) + align(8 * targets * SAMPLE_TOP);
}

/** Where in `told` facts and most likely tokens begin, and its bytes. */
export function toldPlaces(outputs: number): { readonly facts: number; readonly top: number; readonly bytes: number } {
  const facts = align(4 * outputs);
  const top = facts + align(4 * outputs * SAMPLE_FACTS);
  return { facts, top, bytes: top + align(8 * outputs * SAMPLE_TOP) };
}

function align(bytes: number): number {
  return Math.ceil(bytes / 256) * 256;
}
