/**
 * Grouped matrix products (mixtures of experts) on an NVIDIA GPU: 128 experts of 768 x 2048, eight of them for each token at
 * random, beside PyTorch (a loop over the experts, and torch._grouped_mm) on the same routes in the same run. The limit is
 * the longer of two times: the weights of the experts that have rows, x and y at the bandwidth of a device-to-device copy,
 * and the operations at the speed of an 8192-cubed product; `weightsShare` is without x and y. Graphs are replayed, weights
 * and routes rotate, numbers are medians.
 *
 *     node --conditions=development --import @rose/cute/register bench/gemm/grouped.ts
 *       [--only TEXT] [--tokens 1,8,512] [--no-peer] [--json FILE]
 *
 * Tunings are those of `rose tune` where its tables have one. Without --json the result goes to bench/results.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DeviceMemory, encodeTensorMap, Kernel, measure, versionText, type Argument } from '@rose/cuda';
import { compileKernel } from '@rose/cute';
import {
  groupedKernelFor,
  KERNELS,
  seededRandom,
  specialise,
  type KernelCase,
  type KernelModule,
  type Specialisation,
} from '@rose/kernels';
import { copyOf, openGpu, timeKernel, tuningsOf } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { randomTensor, rounded } from './tensors.ts';

const EXPERTS = 128;
const PER_TOKEN = 8;
const TOKENS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
/** Copies of all weights, and routes, that rotate: few tokens touch no expert twice before the level-2 cache forgot it. */
const COPIES = 4;
const ROUTES = 12;

interface Product {
  readonly id: string;
  readonly columns: number;
  readonly depth: number;
  readonly options: NonNullable<KernelCase['options']>;
}

const PRODUCTS: readonly Product[] = [
  { id: 'gate and up', columns: 1536, depth: 2048, options: { gate: 'silu' } },
  { id: 'down', columns: 2048, depth: 768, options: { leaves: 4 } },
  // What the leaf rule costs: the same product in a single loop over the depth.
  { id: 'down, one loop', columns: 2048, depth: 768, options: {} },
];

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    tokens: { type: 'string', default: '' },
    'no-peer': { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const wantedTokens = values.tokens.split(',').filter(Boolean).map(Number);
const products = PRODUCTS.filter(({ id }) => id.includes(values.only));
const tokensList = TOKENS.filter((tokens) => wantedTokens.length === 0 || wantedTokens.includes(tokens));

using gpu = openGpu(0);
const { context, stream } = gpu;
const multiprocessors = context.device.attribute('multiprocessors');
const tunings = tuningsOf(gpu, console.warn);
const copy = copyOf(gpu);
const peak = peakOf();
console.log(
  `${context.device.name}: copy ${(copy / 1e9).toFixed(0)} GB/s, 8192-cubed product ${(peak / 1e12).toFixed(0)} TFLOP/s`,
);
/** For each number of tokens some routes: where the experts' rows begin, and where the last one's end. */
const routes = new Map(
  tokensList.map((tokens) => [tokens, Array.from({ length: ROUTES }, (_, i) => routeOf(tokens, i))]),
);
const kernels = new Map<string, Kernel>();
const figures = products.flatMap((product) => timeProduct(product));
const result = {
  ...(await circumstances()),
  ...{ device: context.device.name, driver: versionText(context.driver.version) },
  ...{ copyGigabytes: rounded(copy / 1e9), peakTeraflops: rounded(peak / 1e12) },
  ...{ figures, peer: values['no-peer'] ? undefined : peers() },
};
if (values.json === undefined) await writeResult('grouped', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));

function moduleOf(name: string): KernelModule {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

/** Operations a second of a large product, the practical ceiling of the tensor cores. */
function peakOf(): number {
  const module = moduleOf(gpu.arch === 'sm_90a' ? 'linear' : 'linear_mma');
  const s = specialise(module, { dims: { rows: 8192, columns: 8192, depth: 8192 } });
  return timeKernel(gpu, module, s, compileKernel(module.trace(s), { arch: gpu.arch }), copy).rate;
}

/** Each token has different experts, all equally likely. */
function routeOf(tokens: number, seed: number): Int32Array {
  const random = seededRandom(1000 * tokens + seed);
  const counts = new Int32Array(EXPERTS);
  for (let token = 0; token < tokens; token++) {
    const chosen = new Set<number>();
    while (chosen.size < PER_TOKEN) chosen.add(random.integer(EXPERTS));
    for (const expert of chosen) counts[expert] += 1;
  }
  const starts = new Int32Array(EXPERTS + 1);
  for (const [expert, count] of counts.entries()) starts[expert + 1] = starts[expert] + count;
  return starts;
}

/** Experts that have rows. */
function touched(starts: Int32Array): number {
  return starts.subarray(1).filter((end, expert) => end > starts[expert]).length;
}

function timeProduct(product: Product): object[] {
  const { id, columns, depth, options } = product;
  const most = PER_TOKEN * Math.max(...tokensList);
  const width = options['gate'] === undefined ? columns : columns / 2;
  using x = randomTensor(gpu, most * depth, 1, 1);
  using y = new DeviceMemory(context, 2 * most * width);
  const w = Array.from({ length: COPIES }, (_, i) =>
    randomTensor(gpu, EXPERTS * columns * depth, 1 / Math.sqrt(depth), 2 + i),
  );
  const list: object[] = [];
  for (const tokens of tokensList) {
    const rows = PER_TOKEN * tokens;
    const starts = routes.get(tokens)!;
    const groups = starts.map((one) => {
      const memory = new DeviceMemory(context, one.byteLength);
      memory.write(new Uint8Array(one.buffer));
      return memory;
    });
    const experts = starts.reduce((sum, one) => sum + touched(one), 0) / ROUTES;
    const weightBytes = 2 * experts * columns * depth;
    const bytes = weightBytes + 2 * rows * (depth + width);
    const flops = 2 * rows * columns * depth;
    const limitOf = (moved: number): number => 1e6 * Math.max(moved / copy, flops / peak);
    const limit = limitOf(bytes);
    const module = moduleOf(groupedKernelFor(rows, EXPERTS, gpu.arch));
    const s = specialise(module, { dims: { rows, columns, depth, experts: EXPERTS }, options }, tunings);
    const { put, registers } = prepared(module, s, { x, y, w, groups });
    const launches = Math.max(ROUTES, Math.min(48, Math.ceil(1e4 / limit)));
    const microseconds = measure(stream, put, { launches, repeats: 9 }).median;
    list.push({
      ...{ id, tokens, rows, columns, depth, ...options, experts: rounded(experts) },
      ...{ kernel: module.name, tuning: s.tuning, registers, microseconds: rounded(microseconds) },
      ...{ gigabytes: rounded(bytes / microseconds / 1e3), teraflops: rounded(flops / microseconds / 1e6) },
      ...{ limitMicroseconds: rounded(limit), limitShare: rounded(limit / microseconds) },
      weightsShare: rounded(limitOf(weightBytes) / microseconds),
    });
    console.log(
      `${id.padEnd(16)} ${String(tokens).padStart(4)} tokens ${microseconds.toFixed(1).padStart(7)} us ` +
        `${(bytes / microseconds / 1e3).toFixed(0).padStart(5)} GB/s ${(flops / microseconds / 1e6).toFixed(0).padStart(4)} TFLOP/s ` +
        `${((100 * limit) / microseconds).toFixed(0).padStart(3)} % of the limit ${module.name} ${JSON.stringify(s.tuning)}`,
    );
    for (const memory of groups) memory[Symbol.dispose]();
  }
  for (const weights of w) weights[Symbol.dispose]();
  return list;
}

interface Tensors {
  readonly x: DeviceMemory;
  readonly y: DeviceMemory;
  readonly w: readonly DeviceMemory[];
  readonly groups: readonly DeviceMemory[];
}

/** Launches with every route, the weights taking turns. */
function prepared(
  module: KernelModule,
  s: Specialisation,
  { x, y, w, groups }: Tensors,
): { put: (n: number) => void; registers: number | undefined } {
  const { rows, columns, depth } = s.dims;
  const key = JSON.stringify([module.name, columns, depth, s.options, s.tuning]);
  let kernel = kernels.get(key);
  if (!kernel) {
    kernel = new Kernel(context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
    kernels.set(key, kernel);
  }
  const [maps, wanted] = [module.maps(s), module.args(s.dims, s.options)];
  const grid = module.grid(s, { multiprocessors });
  // Of linear_grouped: which tile is next.
  const next = new DeviceMemory(context, 4);
  next.write(new Uint8Array(4));
  const launches = groups.map((starts, n) => {
    const ranges = { x: x.slice(0, 2 * rows * depth), w: w[n % w.length], groups: starts, y, next };
    const args: Record<string, Argument> = { rows };
    for (const [tensor, memory] of Object.entries(ranges).filter(([name]) => name in wanted)) {
      args[tensor] = tensor in maps ? encodeTensorMap(context, { ...maps[tensor], memory }) : memory;
    }
    return kernel
      .prepare()
      .grid(...grid)
      .args(args);
  });
  return { put: (n) => launches[n % launches.length].launch(stream), registers: kernel.resources?.registers };
}

/** PyTorch's times on the same routes. */
function peers(): unknown {
  const script = fileURLToPath(new URL('grouped-peer.py', import.meta.url));
  const cases = products
    .filter(({ options }) => options['leaves'] === undefined)
    .map(({ id, columns, depth, options }) => ({ id, columns, depth, gate: options['gate'] !== undefined }));
  const lists = [...routes].map(([tokens, starts]) => ({ tokens, starts: starts.map((one) => [...one]) }));
  const input = JSON.stringify({ cases, routes: lists, copies: COPIES });
  const { status, stdout, stderr, error } = spawnSync('python3', [script], { input, encoding: 'utf8' });
  if (status !== 0) {
    console.log(`no peer: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
    return undefined;
  }
  const result = JSON.parse(stdout) as { version: string; figures: Record<string, unknown>[] };
  console.log(`PyTorch ${result.version}`);
  for (const figure of result.figures) console.log(JSON.stringify(figure));
  return result;
}
