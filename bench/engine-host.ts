/**
 * What the engine itself costs: host time of a step with many running sequences, on a device that takes none. The bar is
 * 200 microseconds for 256 sequences. Besides, bytes of garbage a step leaves for each token.
 *
 *     node --conditions=development --expose-gc bench/engine-host.ts [--sequences 256] [--context 1024] [--steps 3000]
 */
import { parseArgs } from 'node:util';
import { MAX_LOGPROBS, type DeviceModel, type StepResult } from '../packages/engine/src/device/device.ts';
import { LlmEngine, type LlmOptions } from '../packages/engine/src/engine/llm.ts';
import { Outbox } from '../packages/engine/src/engine/outbox.ts';
import { GREEDY } from '../packages/engine/src/engine/request.ts';
import type { ModelSpec } from '../packages/engine/src/model/spec.ts';
import { circumstances, writeResult } from './measure/report.ts';

const { values: options } = parseArgs({
  options: {
    sequences: { type: 'string', default: '256' },
    context: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '3000' },
  },
});
const sequences = Number(options.sequences);
const context = Number(options.context);
const steps = Number(options.steps);
const VOCABULARY = 1000;
const WARM_UP = 500;

const spec: ModelSpec = {
  architecture: 'none',
  vocabSize: VOCABULARY,
  hiddenSize: 1,
  contextLength: context + steps + WARM_UP + 100,
  embedding: { positions: 0, types: 0, norm: undefined },
  blocks: [],
  finalNorm: undefined,
  head: { kind: 'logits', tied: true },
};

/** Answers at once, with the same token for everybody. */
function device(): DeviceModel {
  const contextPages = Math.ceil(spec.contextLength / 16);
  const result: StepResult = {
    values: new Float32Array(0),
    width: 1,
    tokens: new Int32Array(sequences).fill(5),
    logprobs: new Float32Array(sequences),
    topTokens: new Int32Array(sequences * MAX_LOGPROBS),
    topLogprobs: new Float32Array(sequences * MAX_LOGPROBS),
    targetLogprobs: new Float32Array(0),
    targetRanks: new Int32Array(0),
    targetTopTokens: new Int32Array(0),
    targetTopLogprobs: new Float32Array(0),
  };
  return {
    answersApart: false,
    capacity: { rows: 8192, sequences, outputs: sequences, pages: sequences * contextPages, groups: 1 },
    cache: { pageTokens: 16, groups: [{ window: undefined, pages: sequences * contextPages }], slots: 0 },
    memory: { weights: 0, sequences: 0, workspace: 0, pages: [] },
    step: () => result,
    close: () => {},
  };
}

interface Figure {
  readonly loop: LlmOptions['loop'];
  /** Microseconds of a step, by share of the steps that take no longer. */
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
  /** Bytes of heap a token, the message's arrays among them. */
  readonly heapBytes: number;
}

async function measure(loop: LlmOptions['loop']): Promise<Figure> {
  const limits = { entries: sequences, timeoutMs: undefined, stepMs: undefined };
  const engine = new LlmEngine(spec, device(), { ...limits, loop, clock: () => performance.now() });
  for (let id = 1; id <= sequences; id++) {
    // Prompts that share nothing.
    const tokens = Int32Array.from({ length: context }, (_, i) => (i === 0 ? id : i) % VOCABULARY);
    const command = { kind: 'generate', tokens, sampling: GREEDY, maxTokens: steps + WARM_UP + 50 } as const;
    const rest = { minTokens: 0, stopTokens: [2], logprobs: -1, promptLogprobs: -1, salt: '' };
    const request = { id, model: 0, tenant: 'one', priority: 0, deadline: undefined, siblingOf: undefined };
    engine.submit({ ...request, command: { ...command, ...rest } }, 0);
  }
  const outbox = new Outbox();
  const decoding = (): boolean => engine.scheduler.running.every((sequence) => sequence.decoding);
  for (let i = 0; i < WARM_UP || engine.state.running < sequences || !decoding(); i++) {
    await engine.step(0, outbox);
    outbox.take();
  }
  const times = new Float64Array(steps);
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  let taken = 0;
  let heapBytes = 0;
  for (let i = 0; i < steps; i++) {
    const start = performance.now();
    await engine.step(0, outbox);
    times[i] = (performance.now() - start) * 1000;
    taken += outbox.take().tokens.length;
    // A young generation is not collected within so few steps.
    if (i === GARBAGE_STEPS) {
      heapBytes = (process.memoryUsage().heapUsed - before) / taken;
    }
  }
  times.sort();
  const at = (share: number): number => Math.round(10 * times[Math.floor(share * (steps - 1))]) / 10;
  return { loop, median: at(0.5), p90: at(0.9), p99: at(0.99), heapBytes: Math.round(10 * heapBytes) / 10 };
}

const GARBAGE_STEPS = 30;

const figures: Figure[] = [];
for (const loop of ['plain', 'overlapped'] as const) figures.push(await measure(loop));
console.table(figures);
await writeResult('engine-host', { ...(await circumstances()), sequences, context, steps, figures });
