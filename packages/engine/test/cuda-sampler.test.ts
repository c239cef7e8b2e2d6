import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createCpu, type Cpu } from '@rose/cpu';
import { CpuSampler } from '../src/device/cpu/sampler.ts';
import { CudaResult } from '../src/device/cuda/result.ts';
import { CudaSampler } from '../src/device/cuda/sampler.ts';
import { GpuScope } from '../src/device/cuda/scope.ts';
import type { Gpu } from '../src/device/cuda/gpu.ts';
import { MAX_LOGPROBS, type StepResult } from '../src/device/device.ts';
import { Batch } from '../src/engine/batch.ts';
import { philox4x32 } from '../src/sampling/philox.ts';
import type { TokenMask } from '../src/grammar/grammars.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

/** The GPU's draws are the CPU's, to the token, for the same logits; on the simulator. */

const OUTPUTS = 12;
const ROWS = 16;
const capacity = { rows: 24, sequences: OUTPUTS, outputs: OUTPUTS, pages: 16, groups: 1 };

let cpu: Cpu;
before(async () => (cpu = await createCpu({ threads: 1 })));
after(() => cpu.close());

class Random {
  readonly #words = new Uint32Array(4);
  #count = 0;
  readonly #seed: number;
  constructor(seed: number) {
    this.#seed = seed;
  }
  u(): number {
    this.#words.fill(0);
    this.#words[0] = this.#count++;
    philox4x32(this.#words, this.#seed, 77);
    return this.#words[0] / 2 ** 32;
  }
  whole(end: number): number {
    return Math.floor(this.u() * end);
  }
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.u())) * Math.cos(2 * Math.PI * this.u());
  }
  pick<T>(...of: readonly T[]): T {
    return of[this.whole(of.length)];
  }
}

/** A row: like a model's, flat, with ties, peaked, all equal, with a part forbidden, or without a finite maximum. */
function rowOf(random: Random, vocabulary: number): Float32Array {
  const kind = random.whole(9);
  const best = random.whole(vocabulary);
  return Float32Array.from({ length: vocabulary }, (_none, t) => {
    const normal = random.normal();
    if (kind === 0) return Math.round(2 * normal) / 2;
    if (kind === 1) return t === best ? 25 : normal;
    if (kind === 2) return 1.5;
    if (kind === 3) return random.u() < 0.8 ? -Infinity : normal;
    if (kind === 4)
      return t === best ? random.pick(Number.NaN, Infinity, 0) : -Math.abs(normal) - (t % 3 === 0 ? 0 : 1);
    if (kind === 5) return t % 2 === 0 ? -0 : 0;
    return 3 * normal + (kind === 6 ? 40 : 0);
  });
}

function maskOf(random: Random, vocabulary: number): Int32Array {
  const bits = new Int32Array(Math.ceil(vocabulary / 32));
  const one = random.whole(vocabulary);
  if (random.u() < 0.3) bits[one >>> 5] = 1 << (one & 31);
  else for (let i = 0; i < bits.length; i++) bits[i] = random.whole(2 ** 32) | 0;
  return bits;
}

function grammar(bits: Int32Array | undefined): TokenMask {
  return { wait: () => bits, fault: undefined, soon: true, advance: () => {}, close: () => {} };
}

/** What an output's sequence has said so far. */
interface Talk {
  readonly tokens: number[];
  prompt: number;
  told: number;
}

/** A step's draws, with everything that a request may ask for. */
function compose(batch: Batch, random: Random, vocabulary: number, talks: Talk[], outputs: number): void {
  batch.clear();
  for (let o = 0; o < outputs; o++) {
    batch.outputs++;
    batch.outputRows[o] = o;
    batch.temperature[o] = random.pick(0, 0.01, 0.3, 0.7, 1, 1, 2.5, 100);
    batch.topK[o] = random.pick(0, 0, 1, 3, 17, vocabulary - 1, vocabulary);
    batch.topP[o] = random.pick(1, 1, 1e-46, 1e-4, 0.3, 0.9, 0.999999);
    batch.minP[o] = random.pick(0, 0, 0.05, 0.4, 1);
    batch.repetitionPenalty[o] = random.pick(1, 1.3, 0.7);
    batch.presencePenalty[o] = random.pick(0, 0.5, -1.1);
    batch.frequencyPenalty[o] = random.pick(0, 0.3);
    batch.seed[o] = random.whole(2 ** 53);
    batch.drawPosition[o] = random.whole(3000);
    batch.logprobs[o] = random.pick(-1, -1, 0, 5, 20);
    if (random.u() < 0.3) {
      const first = random.whole(vocabulary - 8);
      for (let i = 0; i < 5; i++) batch.addBias(first + i, random.pick(-Infinity, 100, -3.3, 0.7));
      // A token may be biased and forbidden.
      batch.addBias(first + 1, -Infinity);
    }
    batch.biasStart[o + 1] = batch.biases;
    batch.maskOf[o] = random.u() < 0.25 ? batch.addMask(maskOf(random, vocabulary)) : -1;
    const limited = random.u();
    batch.grammars[o] = limited > 0.25 ? undefined : grammar(limited < 0.02 ? undefined : maskOf(random, vocabulary));
    const talk = talks[o];
    // Sequences end, and others begin in their slot.
    if (random.u() < 0.2) [talk.tokens.length, talk.told] = [0, 0];
    if (talk.tokens.length === 0) talk.prompt = 1 + random.whole(60);
    const length = Math.max(talk.prompt, talk.tokens.length + random.pick(1, 1, 1, 4));
    while (talk.tokens.length < length) talk.tokens.push(random.whole(random.pick(6, vocabulary)));
    const looksBack = random.u() < 0.6;
    batch.historySlot[o] = looksBack ? o : -1;
    batch.historyFrom[o] = talk.told;
    batch.historyPrompt[o] = talk.prompt;
    if (looksBack) {
      batch.addHistory(Int32Array.from(talk.tokens), talk.told, length);
      talk.told = length;
    }
    batch.historyStart[o + 1] = batch.history;
  }
  for (let t = 0; t < 5; t++) batch.addTarget(0, random.whole(vocabulary), random.pick(0, 2, 20));
}

/** Rows of logits on both devices, and what each makes of them. */
async function pair(vocabulary: number, whole: Gpu) {
  const gpu = new GpuScope(whole);
  const arena = await cpu.createArena(2 ** 24);
  arena.reserve({ maxRows: 1, maxInputs: 0, maxContext: 16, maxHeadDim: 4, maxWidth: 16 });
  const program = arena.program();
  const pointer = arena.alloc(ROWS * vocabulary * 4);
  const sampler = new CpuSampler(arena, program, pointer, vocabulary, ROWS);
  const sizes = { vocabulary, outputs: OUTPUTS, targets: capacity.rows, rows: ROWS, sequences: OUTPUTS };
  const memory = gpu.alloc(4 * ROWS * vocabulary);
  const own = new CudaSampler(gpu, memory, sizes);
  const staging = gpu.pinned(4 * ROWS * vocabulary);
  const theirs = new CudaResult(gpu, OUTPUTS, capacity.rows, vocabulary, false);
  const empty = (): StepResult => ({
    values: new Float32Array(0),
    width: vocabulary,
    tokens: new Int32Array(OUTPUTS),
    logprobs: new Float32Array(OUTPUTS),
    topTokens: new Int32Array(OUTPUTS * MAX_LOGPROBS),
    topLogprobs: new Float32Array(OUTPUTS * MAX_LOGPROBS),
    targetLogprobs: new Float32Array(capacity.rows),
    targetRanks: new Int32Array(capacity.rows),
    targetTopTokens: new Int32Array(capacity.rows * MAX_LOGPROBS),
    targetTopLogprobs: new Float32Array(capacity.rows * MAX_LOGPROBS),
  });
  return {
    run: (batch: Batch, rows: readonly Float32Array[]): [StepResult, StepResult] => {
      const { stream } = gpu;
      const put = (): void => rows.forEach((row, r) => arena.f32(pointer, ROWS * vocabulary).set(row, r * vocabulary));
      const here = empty();
      put();
      sampler.judge(batch, 0, batch.targets, here);
      put();
      sampler.sample(batch, here);
      rows.forEach((row, r) => new Float32Array(staging.buffer).set(row, r * vocabulary));
      stream.upload(memory, staging, 0, staging.buffer.byteLength);
      own.begin(batch, stream);
      own.judge(batch, 0, batch.targets, stream);
      own.draw(batch, stream);
      theirs.take(stream, memory, own, batch);
      return [here, theirs.result];
    },
    close: (): void => {
      gpu.close();
      arena.close();
    },
  };
}

function same(batch: Batch, here: StepResult, there: StepResult, round: number): void {
  const what = `round ${round}`;
  assert.deepEqual(there.tokens.slice(0, batch.outputs), here.tokens.slice(0, batch.outputs), what);
  const close = (a: number, b: number, of: string): void => {
    assert.ok(a === b || Math.abs(a - b) <= 2e-5 * (1 + Math.abs(b)), `${what}: ${of} ${a}, not ${b}`);
  };
  const tops = (at: number, count: number, mine: StepResult, of: 'top' | 'targetTop'): void => {
    for (let i = at * MAX_LOGPROBS; i < at * MAX_LOGPROBS + count; i++) {
      assert.equal(there[`${of}Tokens`][i], mine[`${of}Tokens`][i], `${what}: ${of} ${at}`);
      if (mine[`${of}Tokens`][i] >= 0) close(there[`${of}Logprobs`][i], mine[`${of}Logprobs`][i], `${of} ${at}`);
    }
  };
  for (let o = 0; o < batch.outputs; o++) {
    if (batch.logprobs[o] < 0 || here.tokens[o] < 0) continue;
    if (Number.isNaN(here.logprobs[o])) {
      assert.ok(Number.isNaN(there.logprobs[o]), `${what}: output ${o} has no log-probability`);
      continue;
    }
    close(there.logprobs[o], here.logprobs[o], `output ${o}`);
    tops(o, MAX_LOGPROBS, here, 'top');
  }
  for (let t = 0; t < batch.targets; t++) {
    assert.equal(there.targetRanks[t], here.targetRanks[t], `${what}: rank ${t}`);
    if (here.targetRanks[t] === 0) continue;
    close(there.targetLogprobs[t], here.targetLogprobs[t], `target ${t}`);
    tops(t, MAX_LOGPROBS, here, 'targetTop');
  }
}

for (const [vocabulary, arch, rounds] of [
  [90, 'sm_90a', 6],
  [333, 'sm_80', 3],
  [17000, 'sm_90a', 1],
] as const) {
  test(`draws, log-probabilities and ranks of ${vocabulary} tokens for ${arch}`, async () => {
    const random = new Random(vocabulary);
    const { run, close } = await pair(vocabulary, new SimulatedGpu({ arch }));
    const batch = new Batch(capacity);
    const talks = Array.from({ length: OUTPUTS }, (): Talk => ({ tokens: [], prompt: 0, told: 0 }));
    for (let round = 0; round < rounds; round++) {
      const outputs = vocabulary > 1000 ? 3 : OUTPUTS;
      const rows = Array.from({ length: outputs }, () => rowOf(random, vocabulary));
      compose(batch, random, vocabulary, talks, outputs);
      batch.targets = Math.min(batch.targets, outputs);
      const [here, there] = run(batch, rows);
      same(batch, here, there, round);
    }
    close();
  });
}
