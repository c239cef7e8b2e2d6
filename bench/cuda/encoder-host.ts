/**
 * What a step of an encoder costs the engine's thread, without a GPU: the launches, copies and graphs of BERT-base's shape go to a
 * GPU on paper (`paper-gpu.ts`), which counts them and does nothing. So the figures have what Rose does itself, and lack what
 * NVIDIA's driver takes for its calls, whose number is given.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/encoder-host.ts [--steps 2000] [--json FILE]
 *
 * Without --json the result goes to bench/results.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '../../packages/engine/src/checkpoint/open.ts';
import { CudaModel } from '../../packages/engine/src/device/cuda/model.ts';
import { PaperGpu } from '../../packages/engine/src/device/cuda/paper-gpu.ts';
import type { DeviceModel } from '../../packages/engine/src/device/device.ts';
import { Outbox } from '../../packages/engine/src/engine/outbox.ts';
import { PoolingEngine } from '../../packages/engine/src/engine/pooling.ts';
import { bert, makeBert } from '../make-bert.ts';
import { circumstances, writeResult } from '../measure/report.ts';

const { values } = parseArgs({ options: { steps: { type: 'string', default: '2000' }, json: { type: 'string' } } });
const STEPS = Number(values.steps);
/** Steps of this many rows are measured a tenth as often. */
const LARGE = 4096;

interface Figure {
  readonly sequences: number;
  readonly tokens: number;
  /** Median microseconds of handing a composed step to the GPU, and of all of the engine's step: composing and reporting, too. */
  readonly handOver: number;
  readonly engineStep: number;
  /** Launches, copies and graphs of a step. */
  readonly calls: number;
}

const checkpoint = await openCheckpoint((await makeBert()).bf16);
const figures: Figure[] = [];
for (const [sequences, tokens] of [
  [1, 32],
  [8, 128],
  [8, 512],
  [64, 512],
] as const) {
  const figure = await measure(sequences, tokens);
  figures.push(figure);
  const { handOver, engineStep, calls } = figure;
  console.log(`${sequences} x ${tokens}: handed over in ${handOver} us, whole step ${engineStep} us, ${calls} calls`);
}
await checkpoint.close();
const result = { ...(await circumstances()), model: bert, steps: STEPS, figures };
if (values.json === undefined) await writeResult('cuda-encoder-host', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

async function measure(sequences: number, tokens: number): Promise<Figure> {
  const gpu = new PaperGpu({
    description: 'GPU 0 (paper)',
    arch: 'sm_90a',
    multiprocessors: 132,
    sharedBytes: 232_448,
  });
  const options = { quantize: undefined, cacheDtype: undefined, maxSequences: 128, maxRows: 64 * 512 };
  const model = CudaModel.sketch(gpu, checkpoint, options);
  const handed: number[] = [];
  const timed: DeviceModel = {
    ...{ capacity: model.capacity, cache: model.cache, memory: model.memory, answersApart: model.answersApart },
    step(batch) {
      const began = performance.now();
      const running = model.step(batch);
      handed.push(1000 * (performance.now() - began));
      return running;
    },
    close: () => model.close(),
  };
  const engine = new PoolingEngine(checkpoint.spec, timed, { entries: 1000, timeoutMs: undefined, loop: 'overlapped' });
  const outbox = new Outbox();
  const whole: number[] = [];
  const steps = sequences * tokens >= LARGE ? STEPS / 10 : STEPS;
  const warmUp = Math.ceil(steps / 4);
  let calls = 0;
  for (let i = 0; i < warmUp + steps; i++) {
    for (let s = 0; s < sequences; s++) {
      const ids = Int32Array.from({ length: tokens }, (_, t) => (31 * t + 7 * s + i) % bert.vocabulary);
      const command = { kind: 'pool', tokens: ids, types: new Int32Array(tokens) } as const;
      const rest = { tenant: '', priority: 0, deadline: undefined, siblingOf: undefined };
      engine.submit({ id: i * sequences + s, model: 0, command, ...rest }, 0);
    }
    const before = gpu.stream.calls;
    const began = performance.now();
    await engine.step(0, outbox);
    whole.push(1000 * (performance.now() - began));
    calls = gpu.stream.calls - before;
    outbox.take();
  }
  engine.close();
  const median = (list: readonly number[]): number => {
    const sorted = list.slice(warmUp).toSorted((a, b) => a - b);
    return Math.round(10 * sorted[Math.floor(sorted.length / 2)]) / 10;
  };
  return { sequences, tokens, handOver: median(handed), engineStep: median(whole), calls };
}
