/**
 * Steps of whole models on an NVIDIA GPU, without scheduler, server or sampling options: milliseconds of decode steps and of
 * prompts, beside the time that reading the weights (and the keys and values) takes at the bandwidth of a copy from device to
 * device in the same run. Last, 32 and 256 sequences in the engine's overlapped loop: how long the GPU is idle between their steps, and
 * how long the engine's thread takes to hand one over.
 *
 *     node --conditions=development --import @rose/cute/register bench/cuda/steps.ts [--shape llama-8b,llama-1b] [--fp8]
 *         [--decode 1x128,32x1024] [--prompt 512,2048] [--loop 32,256] [--steps 60] [--json FILE]
 *
 * With --fp8 weights are brought to e4m3 as they are read, and keys and values are e4m3. `--decode`, `--prompt` and `--loop` take a
 * part of what is measured, or nothing of a kind with `none`. Without --json the result goes to bench/results.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { copyBandwidth } from '@rose/cuda';
import { openCheckpoint } from '../../packages/engine/src/checkpoint/open.ts';
import { DriverGpu } from '../../packages/engine/src/device/cuda/driver-gpu.ts';
import { CudaModel } from '../../packages/engine/src/device/cuda/model.ts';
import { Batch } from '../../packages/engine/src/engine/batch.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { LLAMA_SHAPES, makeLlamaShape, type LlamaShape } from '../models/llama-shapes.ts';
import { DriverCalls } from './driver-calls.ts';
import { measureIdle } from './idle.ts';
import { timeSteps, type StepTimes } from './time-steps.ts';

const { values } = parseArgs({
  options: {
    shape: { type: 'string' },
    json: { type: 'string' },
    steps: { type: 'string', default: '60' },
    fp8: { type: 'boolean', default: false },
    decode: { type: 'string', default: '1x128,1x8000,32x1024,64x1024,256x1024' },
    prompt: { type: 'string', default: '512,2048,8192' },
    loop: { type: 'string', default: '32,256' },
  },
});
const STEPS = Number(values.steps);
/** Most of the time that a GPU may be idle at 32 sequences. */
const IDLE_BAR = 0.03;
/** Microseconds in which a step of 256 sequences is to be handed over. */
const HOST_BAR = 150;
const wantedShapes = values.shape?.split(',');
/** Sizes of so many numbers each. */
const listOf = (list: string, count: number): number[][] => {
  const sizes = list === 'none' ? [] : list.split(',').map((size) => size.split('x').map(Number));
  const wrong = sizes.some((size) => size.length !== count || !size.every((n) => Number.isInteger(n) && n > 0));
  if (wrong)
    throw new Error(`'${list}' has not ${count} whole numbers above 0 in each place: 1x128,32x1024 or 512,2048`);
  return sizes;
};

interface Figure {
  readonly shape: string;
  readonly kind: 'decode' | 'prompt';
  readonly sequences: number;
  readonly context: number;
  readonly milliseconds: number;
  readonly tokensPerSecond: number;
  /** Of the step, the time in which this thread hands it to the GPU. */
  readonly hostMicroseconds: number;
  /** What the driver's functions take of it, by their names. */
  readonly driver?: StepTimes['driver'];
  /** Weights, keys and values at the bandwidth of a copy, and its share of the step's time. */
  readonly limitMilliseconds: number;
  readonly shareOfLimit: number;
}

const gpu = DriverGpu.open(0);
// Before anything takes one of its functions.
const calls = new DriverCalls(gpu.context.driver.calls);
const copy = copyBandwidth(gpu.stream.stream);
const figures: Figure[] = [];
const idles: object[] = [];
for (const shape of LLAMA_SHAPES) {
  if (wantedShapes !== undefined && !wantedShapes.includes(shape.name)) continue;
  await measureShape(shape);
}
const formats = values.fp8 ? 'e4m3' : 'bf16';
const result = {
  ...(await circumstances()),
  device: gpu.description,
  formats,
  copyGigabytes: copy / 1e9,
  figures,
  idle: idles,
};
if (values.json === undefined) await writeResult(values.fp8 ? 'cuda-steps-fp8' : 'cuda-steps', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));
gpu.close();

async function measureShape(shape: LlamaShape): Promise<void> {
  let at = performance.now();
  const lap = (): string => {
    const seconds = ((performance.now() - at) / 1000).toFixed(2);
    at = performance.now();
    return `${seconds} s`;
  };
  const directory = await makeLlamaShape(shape);
  console.log(`${shape.name}: written in ${lap()}`);
  const checkpoint = await openCheckpoint(directory);
  const model = await CudaModel.load(gpu, checkpoint, {
    quantize: values.fp8 ? 'fp8' : undefined,
    cacheDtype: values.fp8 ? 'fp8' : 'bf16',
    maxSequences: 256,
    maxRows: 8192,
  });
  console.log(`${shape.name}: loaded in ${lap()}`, JSON.stringify(model.memory));
  const weights = model.memory.weights - (shape.tied ? 0 : 2 * shape.vocabulary * shape.hidden);
  for (const [sequences, context] of listOf(values.decode, 2)) {
    const batch = decodeBatch(model, sequences, context);
    const times = await timeSteps(model, batch, STEPS, calls);
    report('decode', shape, weights, sequences, context, sequences, times);
  }
  for (const [rows] of listOf(values.prompt, 1)) {
    const batch = promptBatch(model, rows);
    const times = await timeSteps(model, batch, Math.ceil(STEPS / 8), calls);
    report('prompt', shape, weights, 1, rows, rows, times);
  }
  for (const [sequences] of listOf(values.loop, 1)) {
    const wanted = { sequences, context: 1024, steps: 100 };
    const idle = await measureIdle(gpu, model, checkpoint.spec, wanted, calls);
    idles.push({ shape: shape.name, bar: IDLE_BAR, hostBar: HOST_BAR, ...idle });
    const longest = Object.entries(idle.driver).slice(0, 3);
    console.log(
      `${shape.name} in the engine's loop: ${sequences} x 1024, ${idle.stepMilliseconds.toFixed(3)} ms a step, of which the GPU is idle ` +
        `${(100 * idle.idleShare).toFixed(2)} %; handed over in ${idle.handOverMicroseconds.toFixed(0)} us` +
        longest.map(([name, one]) => `, ${name} ${one.microseconds.toFixed(0)} us in ${one.calls.toFixed(1)}`).join(''),
    );
  }
  console.log(`${shape.name}: measured in ${lap()}`);
  model.close();
  await checkpoint.close();
}

function report(
  kind: Figure['kind'],
  shape: LlamaShape,
  weights: number,
  sequences: number,
  context: number,
  tokens: number,
  { milliseconds, host, driver }: StepTimes,
): void {
  const element = values.fp8 ? 1 : 2;
  const keys = kind === 'decode' ? sequences * context * shape.layers * shape.kvHeads * shape.headDim * 2 * element : 0;
  const limit = ((weights + keys) / copy) * 1000;
  const figure = {
    shape: shape.name,
    kind,
    sequences,
    context,
    milliseconds,
    tokensPerSecond: (tokens / milliseconds) * 1000,
    hostMicroseconds: host,
    ...(driver && { driver }),
    limitMilliseconds: limit,
    shareOfLimit: limit / milliseconds,
  };
  figures.push(figure);
  console.log(
    `${shape.name} ${kind} ${sequences} x ${context}: ${milliseconds.toFixed(3)} ms, ${figure.tokensPerSecond.toFixed(0)} tokens/s, ` +
      `${(100 * figure.shareOfLimit).toFixed(1)} % of the limit, host ${host.toFixed(0)} us` +
      Object.entries(driver ?? {})
        .slice(0, 3)
        .map(([name, one]) => `, ${name} ${one.microseconds.toFixed(0)} us in ${one.calls.toFixed(1)} calls`)
        .join(''),
  );
}

/** Every sequence continues its answer behind `context` tokens, in pages of its own. */
function decodeBatch(model: CudaModel, sequences: number, context: number): Batch {
  const batch = new Batch(model.capacity);
  batch.clear();
  const tokens = new Int32Array(context + 1).fill(7);
  const count = Math.ceil((context + 1) / 16);
  const [{ pages }] = model.cache.groups;
  for (let s = 0; s < sequences; s++) {
    const table = Int32Array.from({ length: count }, (_, i) => (s * count + i) % pages);
    batch.addSequence(tokens, undefined, context, context + 1, [table], count, -1, true);
    addOutput(batch);
  }
  return batch;
}

function promptBatch(model: CudaModel, rows: number): Batch {
  const batch = new Batch(model.capacity);
  batch.clear();
  const tokens = Int32Array.from({ length: rows }, (_, i) => 300 + ((i * 37) % 20_000));
  const table = Int32Array.from({ length: Math.ceil(rows / 16) }, (_, i) => i);
  batch.addSequence(tokens, undefined, 0, rows, [table], table.length);
  addOutput(batch);
  return batch;
}

/** Greedily, without anything else. */
function addOutput(batch: Batch): void {
  const o = batch.outputs++;
  batch.outputRows[o] = batch.rows - 1;
  batch.temperature[o] = 0;
  batch.topP[o] = 1;
  batch.repetitionPenalty[o] = 1;
  batch.logprobs[o] = -1;
  batch.maskOf[o] = -1;
  batch.historySlot[o] = -1;
  batch.biasStart[o + 1] = 0;
  batch.historyStart[o + 1] = 0;
}
