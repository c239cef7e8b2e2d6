/**
 * The kernels of an encoder of BERT-base's shape on an NVIDIA GPU, one after the other in a graph, random weights: what the
 * engine can reach at most. Beside it the same in PyTorch, eager and from a CUDA graph, in the same run.
 *
 *     node --conditions=development --import @rose/cute/register bench/encoder/run.ts [--no-peer] [--json FILE]
 *
 * Products have one leaf, as an encoder that is not divided among GPUs; `leaves` says what the leaf rule costs.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DeviceMemory, encodeTensorMap, Kernel, measure, versionText, type Argument } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import { KERNELS, leavesOf, linearKernelFor, specialise, type KernelCase } from '@rose/kernels';
import { copyOf, openGpu, tuningsOf } from '../../packages/rose/src/kernel/gpu.ts';
import { randomTensor, rounded } from '../gemm/tensors.ts';
import { circumstances, writeResult } from '../measure/report.ts';

const [LAYERS, WIDTH, INNER, HEADS, VOCABULARY, POSITIONS] = [12, 768, 3072, 12, 30522, 512];
/** Operations of a token, but for attention. */
const FLOPS = LAYERS * 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER);

const { values } = parseArgs({ options: { 'no-peer': { type: 'boolean', default: false }, json: { type: 'string' } } });
using gpu = openGpu(0);
const { context, stream } = gpu;
const multiprocessors = context.device.attribute('multiprocessors');
const tunings = tuningsOf(gpu, console.log);
const copy = copyOf(gpu);
console.log(`${context.device.name}: a device-to-device copy moves ${(copy / 1e9).toFixed(0)} GB/s`);

const kernels = new Map<string, Kernel>();
const weights = Array.from({ length: LAYERS }, (_, layer) => ({
  qkv: randomTensor(gpu, 3 * WIDTH * WIDTH, WIDTH ** -0.5, layer),
  output: randomTensor(gpu, WIDTH * WIDTH, WIDTH ** -0.5, layer + 20),
  up: randomTensor(gpu, INNER * WIDTH, WIDTH ** -0.5, layer + 40),
  down: randomTensor(gpu, WIDTH * INNER, INNER ** -0.5, layer + 60),
}));
const bias = randomTensor(gpu, INNER, 0.1, 1);
const gain = randomTensor(gpu, WIDTH, 0.5, 2);
const tables = {
  table: randomTensor(gpu, VOCABULARY * WIDTH, 1, 3),
  positionTable: randomTensor(gpu, POSITIONS * WIDTH, 1, 4),
  typeTable: randomTensor(gpu, 2 * WIDTH, 1, 5),
};

const figures = [
  { sequences: 64, tokens: 512 },
  { sequences: 64, tokens: 512, leaves: true },
  { sequences: 8, tokens: 512 },
  { sequences: 1, tokens: 32 },
].map((one) => encode(one));
const peer = values['no-peer'] ? undefined : peers();
const result = {
  ...(await circumstances()),
  ...{ device: context.device.name, driver: versionText(context.driver.version), copyGigabytes: rounded(copy / 1e9) },
  ...{ figures, ...(peer === undefined ? {} : { peer }) },
};
if (values.json === undefined) await writeResult('encoder', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

/** Whole sequences of so many tokens each: embedding, layers, the mean of each sequence, its length 1. */
function encode({
  sequences,
  tokens,
  leaves = false,
}: {
  sequences: number;
  tokens: number;
  leaves?: boolean;
}): object {
  const rows = sequences * tokens;
  const part = (width: number): DeviceMemory => new DeviceMemory(context, 2 * rows * width);
  const [x, h, q, k, v, inner] = [WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, INNER].map(part);
  const pooled = new DeviceMemory(context, 4 * sequences * WIDTH);
  const ints = (list: number[]): DeviceMemory => {
    const memory = new DeviceMemory(context, 4 * list.length);
    memory.write(new Uint8Array(Int32Array.from(list).buffer));
    return memory;
  };
  const each = (value: (row: number) => number): DeviceMemory => ints(Array.from({ length: rows }, (_, r) => value(r)));
  const starts = ints(Array.from({ length: sequences + 1 }, (_, s) => s * tokens));
  const input = { ids: each((r) => (r * 7919) % VOCABULARY), positions: each((r) => r % tokens), types: each(() => 0) };
  const lengths = ints(Array.from({ length: sequences }, () => tokens));
  const linear = (columns: number, depth: number, sharded: boolean, options: object, more: Tensors): (() => void) =>
    prepare(
      linearKernelFor(rows, gpu.arch),
      {
        dims: { rows, columns, depth, ...('split' in options ? { keys: WIDTH, values: WIDTH } : {}) },
        options: { bias: true, leaves: leavesOf(depth, leaves && sharded), ...options },
      },
      { bias, ...more },
    );
  const norm = (from: DeviceMemory, residual: DeviceMemory | undefined, to: DeviceMemory): (() => void) => {
    const options = residual ? { residual: true, sum: false } : {};
    const tensors = { x: from, weight: gain, bias, y: to, ...(residual ? { residual } : {}) };
    return prepare('layernorm', { dims: { rows, columns: WIDTH }, options }, tensors);
  };
  const attention = prepare(
    'attention_prefill_wgmma',
    {
      dims: {
        sequences,
        tokens,
        longest: tokens,
        shortest: tokens,
        qHeads: HEADS,
        kvHeads: HEADS,
        head: WIDTH / HEADS,
      },
      options: { layout: 'rows', mask: 'bidirectional' },
    },
    { q, keys: k, values: v, starts, rowStarts: starts, lengths, y: h },
  );
  const embed = prepare(
    'embedding',
    {
      dims: { tokens: rows, columns: WIDTH, vocabulary: VOCABULARY, positions: POSITIONS, types: 2 },
      options: { positions: true, types: true },
    },
    { ...input, ...tables, y: h },
  );
  const steps = [
    embed,
    norm(h, undefined, x),
    ...weights.flatMap((w) => [
      linear(3 * WIDTH, WIDTH, false, { split: 'qkv' }, { x, w: w.qkv, q, k, v }),
      attention,
      linear(WIDTH, WIDTH, true, {}, { x: h, w: w.output, y: q }),
      norm(x, q, h),
      linear(INNER, WIDTH, false, { activation: 'gelu' }, { x: h, w: w.up, y: inner }),
      linear(WIDTH, INNER, true, {}, { x: inner, w: w.down, y: q }),
      norm(h, q, x),
    ]),
    prepare('pool', { dims: { sequences, rows, columns: WIDTH } }, { x, rowStart: starts, y: pooled }),
    prepare('normalize', { dims: { rows: sequences, columns: WIDTH } }, { x: pooled, y: pooled }),
  ];
  const time = measure(stream, () => steps.forEach((step) => step()), { launches: 1, repeats: 15 });
  const vector = new Float32Array(sequences * WIDTH);
  pooled.read(new Uint8Array(vector.buffer));
  const length = Math.hypot(...vector.subarray(0, WIDTH));
  if (Math.abs(length - 1) > 1e-4) throw new Error(`the first vector has length ${length}, not 1`);
  const flops = rows * (FLOPS + LAYERS * 4 * tokens * WIDTH);
  for (const memory of [x, h, q, k, v, inner, pooled, starts, lengths, ...Object.values(input)])
    memory[Symbol.dispose]();
  const figure = {
    ...{ sequences, tokens, leaves, launches: steps.length, microseconds: rounded(time.median) },
    ...{ range: [time.fastest, time.slowest].map(rounded), tokensPerSecond: rounded((rows * 1e6) / time.median) },
    teraflops: rounded(flops / time.median / 1e6),
  };
  console.log(JSON.stringify(figure));
  return figure;
}

type Tensors = Readonly<Record<string, DeviceMemory>>;

/** A launch of a kernel with these tensors and the numbers that its specification gives. */
function prepare(name: string, wanted: KernelCase, tensors: Tensors): () => void {
  const module = KERNELS.find((kernel) => kernel.name === name)!;
  const s = specialise(module, wanted, tunings);
  const { program } = compileKernel(module.trace(s), { arch: gpu.arch });
  const kernel = kernels.get(program.ptx) ?? new Kernel(context, program);
  kernels.set(program.ptx, kernel);
  const maps = module.maps(s);
  const args: Record<string, Argument> = {};
  for (const [parameter, argument] of Object.entries(module.args(s.dims, s.options))) {
    if (argument.kind === 'scalar') args[parameter] = argument.value;
    else if (parameter in maps)
      args[parameter] = encodeTensorMap(context, { ...maps[parameter], memory: tensors[parameter] });
    else args[parameter] = tensors[parameter];
  }
  const launch = kernel
    .prepare()
    .grid(...module.grid(s, { multiprocessors }))
    .args(args);
  return () => launch.launch(stream);
}

function peers(): object | undefined {
  const run = spawnSync('python3', [fileURLToPath(new URL('peer.py', import.meta.url))], { encoding: 'utf8' });
  if (run.status === 0) {
    console.log(run.stdout.trim());
    return JSON.parse(run.stdout) as object;
  }
  console.log(`no peer: ${run.error?.message ?? run.stderr.trim().split('\n').at(-1)}`);
  return undefined;
}
