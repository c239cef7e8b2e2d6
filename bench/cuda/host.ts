/**
 * What a decode step of many running sequences costs the engine's thread, without a GPU: the launches, copies and graphs of
 * Llama-3.1-8B's shape go to a GPU on paper (`paper-gpu.ts`), which counts them and does nothing. So the figures have what Rose
 * does itself, and lack what NVIDIA's driver takes for its calls, whose number is given. The bar is 150 microseconds for handing
 * over a step of 256 sequences.
 *
 *     node --conditions=development --import @rose/cute/register --expose-gc bench/cuda/host.ts [--sequences 256] [--context 1024]
 *         [--steps 2000] [--before FILE] [--json FILE]
 *
 * Each is measured three times; the round with the middle hand-over counts. `--before`: what the same command wrote at another
 * commit, to stand beside. Without --json the result goes to bench/results.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '../../packages/engine/src/checkpoint/open.ts';
import { CudaModel } from '../../packages/engine/src/device/cuda/model.ts';
import { PaperGpu } from '../../packages/engine/src/device/cuda/paper-gpu.ts';
import { LlmEngine } from '../../packages/engine/src/engine/llm.ts';
import { Outbox } from '../../packages/engine/src/engine/outbox.ts';
import { GREEDY, type SamplingParams } from '../../packages/engine/src/engine/request.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { LLAMA_SHAPES, sketchLlamaShape } from '../models/llama-shapes.ts';
import { steppedBy } from './stepped-by.ts';

const { values } = parseArgs({
  options: {
    sequences: { type: 'string', default: '256' },
    context: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '2000' },
    before: { type: 'string' },
    json: { type: 'string' },
  },
});
const [sequences, context, steps] = [values.sequences, values.context, values.steps].map(Number);
const WARM_UP = 300;
const ROUNDS = 3;
const GARBAGE_STEPS = 30;

const DRAWS: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: {},
  'top-k, top-p': { temperature: 0.8, topK: 50, topP: 0.9 },
  'top-k, top-p, penalties': {
    temperature: 0.8,
    topK: 50,
    topP: 0.9,
    repetitionPenalty: 1.1,
    presencePenalty: 0.2,
  },
};

/** Microseconds: the median, and what the given share of the steps stays within. */
interface Times {
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
}

interface Figure {
  readonly draws: string;
  /** Handing a composed step to the GPU: `model.step`. */
  readonly handOver: Times;
  /** All of the engine's step: the same, composing it before, and taking the tokens of the one before. */
  readonly engineStep: Times;
  /** Launches, copies and graphs of a step. */
  readonly calls: number;
  readonly heapBytesPerToken: number;
}

const shape = LLAMA_SHAPES.find(({ name }) => name === 'llama-8b')!;
const checkpoint = await openCheckpoint(await sketchLlamaShape(shape));
const rounds: Figure[] = [];
for (let round = 0; round < ROUNDS; round++) {
  for (const draws of Object.keys(DRAWS)) rounds.push(await measure(draws));
}
const figures = Object.keys(DRAWS).map((draws) => {
  const own = rounds.filter((figure) => figure.draws === draws);
  const sorted = own.toSorted((a, b) => a.handOver.median - b.handOver.median);
  return { ...sorted[Math.floor(ROUNDS / 2)], handOverMedians: own.map(({ handOver }) => handOver.median) };
});
for (const figure of figures) {
  const { draws } = figure;
  const { handOver, engineStep, calls } = figure;
  const said = ({ median, p99 }: Times): string => `${median} us (p99 ${p99})`;
  console.log(`${draws}: handed over in ${said(handOver)}, whole step ${said(engineStep)}, ${calls} calls`);
}
await checkpoint.close();
const before = values.before === undefined ? undefined : (JSON.parse(readFileSync(values.before, 'utf8')) as object);
const result = { ...(await circumstances()), shape: shape.name, sequences, context, steps, figures, before };
if (values.json === undefined) await writeResult('cuda-host', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

async function measure(draws: string): Promise<Figure> {
  const gpu = new PaperGpu({
    description: 'GPU 0 (paper)',
    arch: 'sm_90a',
    multiprocessors: 132,
    sharedBytes: 232_448,
  });
  const model = CudaModel.sketch(gpu, checkpoint, {
    quantize: undefined,
    cacheDtype: undefined,
    maxSequences: sequences,
    maxRows: 8192,
  });
  const handed = new Float64Array(steps);
  let at = 0;
  const drawn = Uint32Array.of(1);
  const timed = steppedBy(model, (batch) => {
    const began = performance.now();
    const running = model.step(batch);
    handed[at % steps] = 1000 * (performance.now() - began);
    return running.then((done) => {
      // Tokens as they come from a model, over the vocabulary.
      for (let o = 0; o < batch.outputs; o++) {
        drawn[0] = Math.imul(drawn[0], 1_664_525) + 1_013_904_223;
        done.tokens[o] = 300 + ((drawn[0] >>> 8) % 128_000);
      }
      return done;
    });
  });
  const limits = { entries: sequences, timeoutMs: undefined, stepMs: undefined };
  const engine = new LlmEngine(checkpoint.spec, timed, {
    ...limits,
    loop: 'overlapped',
    clock: () => performance.now(),
  });
  for (let id = 1; id <= sequences; id++) {
    // Prompts that share nothing.
    const tokens = Int32Array.from({ length: context }, (_, i) => 300 + ((id * 7919 + i * 37) % 20_000));
    const command = {
      kind: 'generate',
      tokens,
      maxTokens: steps + WARM_UP + 50,
      minTokens: 0,
      stopTokens: [],
    } as const;
    const sampling = { ...GREEDY, ...DRAWS[draws], seed: id };
    const rest = { sampling, logprobs: -1, promptLogprobs: -1, salt: '' };
    const request = { id, model: 0, tenant: 'one', priority: 0, deadline: undefined, siblingOf: undefined };
    engine.submit({ ...request, command: { ...command, ...rest } }, 0);
  }
  const outbox = new Outbox();
  const decoding = (): boolean => engine.scheduler.running.every((sequence) => sequence.decoding);
  for (let i = 0; i < WARM_UP || engine.state.running < sequences || !decoding(); i++) {
    await engine.step(0, outbox);
    outbox.take();
  }
  const whole = new Float64Array(steps);
  globalThis.gc?.();
  const { heapUsed } = process.memoryUsage();
  const { calls } = gpu.stream;
  let heap = 0;
  let taken = 0;
  for (at = 0; at < steps; at++) {
    const began = performance.now();
    await engine.step(0, outbox);
    whole[at] = 1000 * (performance.now() - began);
    taken += outbox.take().tokens.length;
    // A young generation is not collected within so few steps.
    if (at === GARBAGE_STEPS) heap = (process.memoryUsage().heapUsed - heapUsed) / taken;
  }
  const perStep = Math.round((10 * (gpu.stream.calls - calls)) / steps) / 10;
  engine.close();
  model.close();
  return {
    draws,
    handOver: timesOf(handed),
    engineStep: timesOf(whole),
    calls: perStep,
    heapBytesPerToken: Math.round(10 * heap) / 10,
  };
}

function timesOf(list: Float64Array): Times {
  const sorted = list.toSorted();
  const at = (share: number): number => Math.round(10 * sorted[Math.floor(share * (sorted.length - 1))]) / 10;
  return { median: at(0.5), p90: at(0.9), p99: at(0.99) };
}
