/**
 * Sampling on an NVIDIA GPU: microseconds for a batch's draws from float32 logits, beside one read of them and PyTorch's
 * argmax and top-p sampling in the same run. Graphs are replayed, logits rotate so that the L2 cache does not serve them,
 * numbers are medians.
 *
 *     node --conditions=development --import @rose/cute/register bench/kernels/sample.ts [--no-peer] [--tunings] [--json FILE]
 *
 * Logits are normal (deviation 1: flat, all of the vocabulary is in reach) or like a trained model's (deviation 2.5, with
 * sixteen tokens far above). `--tunings` tries clusters and threads.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DeviceMemory, Kernel, measure, versionText } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import { KERNELS, SAMPLE_WORDS, SampleField, seededRandom, specialise, type KernelCase } from '@rose/kernels';
import { weightScale } from '@rose/kernels/weight';
import { copyOf, openGpu } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';

type Kind = 'normal' | 'model';

interface Drawing {
  readonly name: string;
  readonly rows: number;
  readonly vocabulary: number;
  readonly kind: Kind;
  readonly choice?: 'any' | 'greedy';
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  /** Different tokens that penalties look at. */
  readonly history?: number;
  readonly tuning?: KernelCase['tuning'];
}

/** Bytes of logits that are rotated: several times the level-2 cache. */
const ROTATED = 3.2e8;

const { values } = parseArgs({
  options: {
    'no-peer': { type: 'boolean', default: false },
    tunings: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
using gpu = openGpu(0);
const { context, stream } = gpu;
const copy = copyOf(gpu);
console.log(`${context.device.name}: a device-to-device copy moves ${(copy / 1e9).toFixed(0)} GB/s`);

const LLAMA = { rows: 128, vocabulary: 128256 } as const;
const ALL = { topK: 50, topP: 0.9, history: 2048 } as const;
const drawings: Drawing[] = [
  { name: 'greedy', ...LLAMA, kind: 'normal', choice: 'greedy' },
  { name: 'temperature', ...LLAMA, kind: 'normal' },
  ...(['normal', 'model'] as const).flatMap((kind): Drawing[] => [
    { name: 'top-k', ...LLAMA, kind, topK: 50 },
    { name: 'top-p', ...LLAMA, kind, topP: 0.9 },
    { name: 'top-k, top-p, penalties', ...LLAMA, kind, ...ALL },
    { name: 'top-p, penalties, min-p', ...LLAMA, kind, ...ALL, topK: 0, minP: 0.01 },
  ]),
  { name: 'greedy', rows: 1, vocabulary: 128256, kind: 'model', choice: 'greedy' },
  { name: 'top-k, top-p, penalties', rows: 1, vocabulary: 128256, kind: 'model', ...ALL },
  { name: 'top-k, top-p, penalties', rows: 32, vocabulary: 151936, kind: 'model', ...ALL },
  { name: 'top-k, top-p, penalties', rows: 128, vocabulary: 262144, kind: 'model', ...ALL },
  { name: 'top-k, top-p, penalties', rows: 256, vocabulary: 128256, kind: 'model', ...ALL },
];
if (values.tunings) {
  for (const tuning of [
    { cluster: 8, threads: 512 },
    { cluster: 4, threads: 512 },
    { cluster: 4, threads: 1024 },
  ]) {
    drawings.push({ name: 'greedy', ...LLAMA, kind: 'normal', choice: 'greedy', tuning });
    for (const kind of ['normal', 'model'] as const) {
      drawings.push({ name: 'top-k, top-p, penalties', ...LLAMA, kind, ...ALL, tuning });
      drawings.push({ name: 'top-p', ...LLAMA, kind, topP: 0.9, tuning });
    }
  }
}

const figures = drawings.map((one) => draw(one));
const logprobs = [128, 1].map((rows) => report(rows));
const peer = values['no-peer'] ? undefined : peers();
const result = {
  ...(await circumstances()),
  ...{ device: context.device.name, driver: versionText(context.driver.version), copyGigabytes: copy / 1e9 },
  ...{ figures, logprobs, ...(peer === undefined ? {} : { peer }) },
};
if (values.json === undefined) await writeResult('sample', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

function memoryOf(data: Int32Array | Float32Array): DeviceMemory {
  const memory = new DeviceMemory(context, data.byteLength);
  memory.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return memory;
}

/** Logits of some rows; rows repeat, each begun elsewhere, because making millions of random numbers takes long. */
function logitsOf(rows: number, vocabulary: number, kind: Kind, seed: number): Float32Array {
  const random = seededRandom(seed);
  const noise = Float32Array.from({ length: 2 ** 16 }, () => random.normal() * (kind === 'normal' ? 1 : 2.5));
  const logits = new Float32Array(rows * vocabulary);
  for (let row = 0; row < rows; row++) {
    const start = random.integer(noise.length);
    const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
    for (let i = 0; i < vocabulary; i++) own[i] = noise[(start + i * 3 + (i >>> 14)) & 0xffff];
    if (kind === 'model') for (let i = 0; i < 16; i++) own[random.integer(vocabulary)] = 20 - i * random.uniform();
  }
  return logits;
}

function draw(drawing: Drawing): object {
  const {
    rows,
    vocabulary,
    kind,
    choice = 'any',
    temperature = 1,
    topK = 0,
    topP = 1,
    minP = 0,
    history = 0,
  } = drawing;
  const module = KERNELS.find(({ name }) => name === 'sample')!;
  const words = rows * SAMPLE_WORDS;
  const dims = { rows, vocabulary, words, history: Math.max(2, 2 * history * rows), masks: 4 };
  const s = specialise(module, { dims, options: { choice }, tuning: drawing.tuning ?? {} });
  const { program } = compileKernel(module.trace(s), { arch: gpu.arch });
  using kernel = new Kernel(context, program);
  const step = new Int32Array(words);
  const float = new Float32Array(step.buffer);
  const entries = new Int32Array(dims.history);
  for (let r = 0; r < rows; r++) {
    const at = r * SAMPLE_WORDS;
    float[at + SampleField.SCALE] = weightScale(temperature);
    step[at + SampleField.TOP_K] = topK;
    float[at + SampleField.TOP_P] = topP;
    float[at + SampleField.MIN_P] = minP;
    step[at + SampleField.SEED] = r;
    float[at + SampleField.REPETITION] = 1.1;
    float[at + SampleField.PRESENCE] = 0.5;
    step[at + SampleField.HISTORY_AT] = 2 * history * r;
    step[at + SampleField.HISTORY_COUNT] = history;
    step[at + SampleField.MASK_AT] = -1;
    step[at + SampleField.GRAMMAR_AT] = -1;
    for (let i = 0; i < history; i++) {
      entries[2 * (history * r + i)] = (i * 61 + r) % vocabulary;
      entries[2 * (history * r + i) + 1] = i % 3;
    }
  }
  const bytes = 4 * rows * vocabulary;
  const sets = Math.max(2, Math.min(16, Math.ceil(ROTATED / bytes)));
  const logits = Array.from({ length: sets }, (_none, i) => memoryOf(logitsOf(rows, vocabulary, kind, i + 1)));
  const rest =
    choice === 'greedy' ? {} : { step: memoryOf(step), history: memoryOf(entries), masks: memoryOf(new Int32Array(4)) };
  const token = memoryOf(new Int32Array(rows));
  const grid = module.grid(s, { multiprocessors: 132 });
  const launches = logits.map((one) =>
    kernel
      .prepare()
      .grid(...grid)
      .args({ logits: one, ...rest, token }),
  );
  const { median, fastest, slowest } = measure(stream, (n) => launches[n % sets].launch(stream), {
    launches: Math.max(20, sets),
    repeats: 21,
  });
  const figure = {
    ...{ ...drawing, tuning: s.tuning },
    ...{ microseconds: median, range: [fastest, slowest], copyShare: (bytes * 1e6) / median / copy },
  };
  for (const memory of [...logits, ...Object.values(rest), token]) memory[Symbol.dispose]();
  console.log(
    `${drawing.name.padEnd(26)} ${kind.padEnd(7)} ${rows} x ${vocabulary} ${JSON.stringify(s.tuning)}: ` +
      `${median.toFixed(1)} us, ${(100 * figure.copyShare).toFixed(0)} % of the copy, ${kernel.resources?.registers} registers`,
  );
  return figure;
}

/** Log-probabilities and the 20 most likely tokens of every row. */
function report(rows: number): object {
  const vocabulary = 128256;
  const module = KERNELS.find(({ name }) => name === 'sample_logprobs')!;
  const s = specialise(module, { dims: { rows, vocabulary } });
  using kernel = new Kernel(context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
  const logits = Array.from({ length: 5 }, (_none, i) => memoryOf(logitsOf(rows, vocabulary, 'model', i + 1)));
  const asked = memoryOf(new Int32Array(rows).fill(20));
  const token = memoryOf(new Int32Array(rows));
  const [facts, top] = [memoryOf(new Int32Array(rows * 8)), memoryOf(new Int32Array(rows * 40))];
  const launches = logits.map((one) =>
    kernel
      .prepare()
      .grid(...module.grid(s, { multiprocessors: 132 }))
      .args({ logits: one, asked, token, facts, top }),
  );
  const { median } = measure(stream, (n) => launches[n % 5].launch(stream), { launches: 20, repeats: 21 });
  for (const memory of [...logits, asked, token, facts, top]) memory[Symbol.dispose]();
  console.log(`log-probabilities with 20 tokens, ${rows} x ${vocabulary}: ${median.toFixed(1)} us`);
  return { rows, vocabulary, top: 20, microseconds: median };
}

function peers(): object | undefined {
  const script = fileURLToPath(new URL('sample_peer.py', import.meta.url));
  const run = spawnSync('python3', [script], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (run.status !== 0) {
    console.log(`no peer: ${run.error?.message ?? run.stderr.trim().split('\n').at(-1)}`);
    return undefined;
  }
  const found = JSON.parse(run.stdout.slice(run.stdout.indexOf('{'))) as object;
  console.log(found);
  return found;
}
