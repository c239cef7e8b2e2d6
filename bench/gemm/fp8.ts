/**
 * Matrix products of e4m3 on an NVIDIA GPU beside cuBLASLt's in the same run: with scales of 128 x 128 blocks (its own of
 * the same kind), of rows, and of tensors, and beside Rose's bf16 product of the same shape. Microseconds, TFLOP/s, GB/s and
 * the share of the bandwidth of a device-to-device copy. Graphs are replayed, weights rotate so that the level-2 cache does
 * not serve them, numbers are medians; cuBLASLt is timed before and after each of Rose's kernels and the faster one counts.
 *
 *     node --conditions=development --import @rose/cute/register bench/gemm/fp8.ts
 *       [--only TEXT] [--rows 1,8,512] [--tune JSON] [--json FILE]
 *
 * `--tune '{"tile":[64,128]}'` times every tuning which has one of the values given, instead of the chosen one. Without
 * --json the result goes to bench/results.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compileKernel } from '@rose/cute';
import {
  CublasLt,
  CublasLtError,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Kernel,
  measure,
  versionText,
  type Argument,
} from '@rose/cuda';
import {
  combinations,
  encode,
  groupsOf,
  KERNELS,
  linearFp8KernelFor,
  linearKernelFor,
  scalePitch,
  seededRandom,
  specialise,
  type KernelCase,
  type KernelModule,
  type Specialisation,
} from '@rose/kernels';
import { copyOf, openGpu } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';

type Scales = 'block' | 'row' | 'tensor';
interface Shape {
  readonly id: string;
  readonly columns: number;
  readonly depth: number;
  readonly rows: readonly number[];
  readonly leaves: 1 | 8;
  readonly scales: Scales;
}

const ALL = [1, 8, 16, 32, 64, 512, 2048, 8192];
const SHAPES: readonly Shape[] = [
  { id: 'cube 8192', columns: 8192, depth: 8192, rows: [8192], leaves: 1, scales: 'block' },
  { id: 'cube 8192', columns: 8192, depth: 8192, rows: [8192], leaves: 1, scales: 'row' },
  { id: 'cube 8192', columns: 8192, depth: 8192, rows: [8192], leaves: 1, scales: 'tensor' },
  { id: 'qkv', columns: 6144, depth: 4096, rows: ALL, leaves: 1, scales: 'block' },
  { id: 'attention output', columns: 4096, depth: 4096, rows: ALL, leaves: 8, scales: 'block' },
  { id: 'gate and up', columns: 28672, depth: 4096, rows: ALL, leaves: 1, scales: 'block' },
  { id: 'down', columns: 4096, depth: 14336, rows: ALL, leaves: 8, scales: 'block' },
  // What the leaf rule costs: the same products in a single loop over the depth.
  { id: 'attention output, one loop', columns: 4096, depth: 4096, rows: ALL, leaves: 1, scales: 'block' },
  { id: 'down, one loop', columns: 4096, depth: 14336, rows: ALL, leaves: 1, scales: 'block' },
];
/** Bytes of weights that rotate: several times the level-2 cache. */
const ROTATED = 320 * 2 ** 20;
/** Numbers that are drawn; they repeat. */
const DRAWN = 2 ** 20;
/** Of elements: fills e4m3's range. */
const DEVIATION = 32;
const BYTES = { e4m3: 1, bf16: 2, f32: 4 } as const;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    rows: { type: 'string', default: '' },
    tune: { type: 'string' },
    json: { type: 'string' },
  },
});
const tuned = values.tune === undefined ? undefined : (JSON.parse(values.tune) as Record<string, unknown[]>);
const wantedRows = values.rows.split(',').filter(Boolean).map(Number);

using gpu = openGpu(0);
const { context, stream } = gpu;
const multiprocessors = context.device.attribute('multiprocessors');
const copy = copyOf(gpu);
using library = openLibrary();
console.log(
  `${context.device.name}, copy ${(copy / 1e9).toFixed(0)} GB/s, cuBLASLt ${library?.version ?? 'not found'}`,
);

function openLibrary(): CublasLt | undefined {
  try {
    return new CublasLt(context);
  } catch (error) {
    if (!(error instanceof CudaUnavailableError)) throw error;
    console.log(error.message);
    return undefined;
  }
}

/** Random numbers on the device: normal ones, or positive ones between a half and one and a half of `size`. */
function random(type: keyof typeof BYTES, elements: number, size: number, seed: number): DeviceMemory {
  const source = seededRandom(seed);
  const memory = new DeviceMemory(context, BYTES[type] * elements);
  const drawn = Math.min(elements, DRAWN);
  const one = (): number => size * (type === 'f32' ? 0.5 + source.uniform() : source.normal());
  memory.write(encode(type, Float64Array.from({ length: drawn }, one)));
  for (let done = BYTES[type] * drawn; done < memory.bytes; done *= 2) {
    const more = Math.min(done, memory.bytes - done);
    stream.copy(memory.slice(done, more), memory.slice(0, more));
  }
  stream.synchronize();
  return memory;
}

function moduleOf(name: string): KernelModule {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

type Put = (n: number) => void;
type Tensors = Readonly<Record<string, DeviceMemory>>;
/** Compiled for any number of rows. */
const kernels = new Map<string, Kernel>();

/** Launches of one of Rose's kernels, the weights in turn. */
function ours(s: Specialisation, module: KernelModule, sets: readonly Tensors[]): Put {
  const key = JSON.stringify([module.name, s.dims.columns, s.dims.depth, s.options, s.tuning]);
  let kernel = kernels.get(key);
  if (!kernel) {
    kernel = new Kernel(context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
    kernels.set(key, kernel);
  }
  const maps = module.maps(s);
  const launches = sets.map((tensors) => {
    const args: Record<string, Argument> = { rows: s.dims.rows };
    for (const [name, argument] of Object.entries(module.args(s.dims, s.options))) {
      if (argument.kind === 'scalar') continue;
      const bytes = argument.shape.reduce((a, b) => a * b, BYTES[argument.type as keyof typeof BYTES]);
      const memory = tensors[name].slice(0, bytes);
      args[name] = name in maps ? encodeTensorMap(context, { ...maps[name], memory }) : memory;
    }
    return kernel
      .prepare()
      .grid(...module.grid(s, { multiprocessors }))
      .args(args);
  });
  return (n) => launches[n % launches.length].launch(stream);
}

/** The library's product, or nothing where it has none of these sizes. */
function theirs(
  rows: number,
  { columns, depth }: Shape,
  scales: Scales,
  fastAccumulation: boolean,
  sets: readonly Tensors[],
): Put | undefined {
  if (!library) return undefined;
  try {
    const fast = fastAccumulation ? { fastAccumulation } : {};
    const sizes = { m: rows, n: columns, k: depth };
    const product = library.product({ ...sizes, input: 'e4m3', output: 'bf16', scales, ...fast });
    const workspace =
      product.workspaceBytes > 0 ? { workspace: new DeviceMemory(context, product.workspaceBytes) } : {};
    return (n) => {
      const { x, w, y, xScale, wScale } = sets[n % sets.length];
      product.run(stream, { x, w, y, xScale, wScale, ...workspace });
    };
  } catch (error) {
    if (!(error instanceof CublasLtError)) throw error;
    return undefined;
  }
}

function fits(tuning: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(tuned ?? {}).every(([name, list]) => list.includes(tuning[name]));
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}

const figures: object[] = [];

function timeRows(shape: Shape, rows: number, sets: readonly Tensors[], bf16: readonly Tensors[]): void {
  const { id, columns, depth, leaves, scales } = shape;
  const module = moduleOf(linearFp8KernelFor(rows, gpu.arch));
  const wanted: KernelCase = { dims: { rows, columns, depth }, options: { leaves, scales } };
  const { flops, bytes } = module.roofline(wanted.dims, specialise(module, wanted).options);
  // About 10 ms of launches in a graph.
  const launches = Math.max(sets.length, Math.min(60, Math.ceil(1e7 / (flops / 1e6 + bytes / 3e3 + 2e3))));
  const time = (put: Put | undefined): number | undefined =>
    put && measure(stream, put, { launches, repeats: 11 }).median;
  const text = (us: number | undefined): string => (us === undefined ? '-' : us.toFixed(1));
  if (tuned) {
    const list: [number, string][] = [];
    for (const tuning of [...combinations(module.tuning)].filter(fits)) {
      try {
        const s = specialise(module, { ...wanted, tuning });
        list.push([time(ours(s, module, sets))!, JSON.stringify(s.tuning)]);
      } catch {
        continue; // This tuning is refused for these sizes.
      }
    }
    list.sort((a, b) => a[0] - b[0]);
    console.log(
      `${id} ${scales} ${rows}: ${list
        .slice(0, 6)
        .map(([us, t]) => `${us.toFixed(1)} ${t}`)
        .join('; ')}`,
    );
    return;
  }
  const peers = {
    same: theirs(rows, shape, scales, false, sets),
    tensor: theirs(rows, shape, 'tensor', false, sets),
    tensorFast: theirs(rows, shape, 'tensor', true, sets),
  };
  const before = Object.values(peers).map(time);
  const s = specialise(module, wanted);
  const us = time(ours(s, module, sets))!;
  const plain = moduleOf(linearKernelFor(rows, gpu.arch));
  const plainTime = time(ours(specialise(plain, { dims: wanted.dims, options: { leaves } }), plain, bf16))!;
  const best = Object.values(peers).map((put, i) => (put ? Math.min(time(put)!, before[i]!) : undefined));
  const [same, tensor, tensorFast] = best.map((value) => value && rounded(value));
  const figure = {
    ...{ id, scales, rows, columns, depth, leaves, kernel: module.name, tuning: s.tuning },
    ...{ microseconds: rounded(us), teraflops: rounded(flops / us / 1e6), gigabytes: rounded(bytes / us / 1e3) },
    ...{ copyShare: rounded((bytes * 1e6) / us / copy) },
    ...{ bf16Microseconds: rounded(plainTime), overBf16: rounded(plainTime / us) },
    cublasMicroseconds: { [scales]: same, tensor, tensorFastAccumulation: tensorFast },
  };
  figures.push(figure);
  console.log(
    `${id.padEnd(26)} ${scales.padEnd(6)} ${String(rows).padStart(4)} ${us.toFixed(1).padStart(8)} us ` +
      `${figure.teraflops.toFixed(0).padStart(4)} TFLOP/s ${figure.gigabytes.toFixed(0).padStart(5)} GB/s ` +
      `${(100 * figure.copyShare).toFixed(0).padStart(3)} % of copy; bf16 ${text(plainTime)} (${figure.overBf16.toFixed(2)}x); ` +
      `cuBLAS ${scales} ${text(same)}, tensor ${text(tensor)}, fast ${text(tensorFast)} ${JSON.stringify(s.tuning)}`,
  );
}

for (const shape of SHAPES.filter(({ id, scales }) => `${id} ${scales}`.includes(values.only))) {
  const { columns, depth } = shape;
  const rowsList = shape.rows.filter((rows) => wantedRows.length === 0 || wantedRows.includes(rows));
  if (rowsList.length === 0) continue;
  const most = Math.max(...rowsList);
  const groups = groupsOf(depth);
  using x = random('e4m3', most * depth, DEVIATION, 1);
  using xScale = random('f32', Math.max(groups, 1) * scalePitch(most), 1 / DEVIATION, 2);
  using wScale = random('f32', Math.max(columns, Math.ceil(columns / 128) * groups), 1 / DEVIATION, 3);
  using y = new DeviceMemory(context, 2 * most * columns);
  const copies = Math.max(2, Math.ceil(ROTATED / (columns * depth)));
  const w = Array.from({ length: copies }, (_, i) => random('e4m3', columns * depth, DEVIATION, 4 + i));
  using x16 = random('bf16', most * depth, 1, 1);
  const w16 = Array.from({ length: Math.ceil(copies / 2) + 1 }, (_, i) =>
    random('bf16', columns * depth, 1 / Math.sqrt(depth), 4 + i),
  );
  const sets = w.map((weights) => ({ x, xScale, w: weights, wScale, y }));
  const sets16 = w16.map((weights) => ({ x: x16, w: weights, y }));
  for (const rows of rowsList) timeRows(shape, rows, sets, sets16);
  for (const weights of [...w, ...w16]) weights[Symbol.dispose]();
}
if (!tuned) {
  const result = {
    ...(await circumstances()),
    device: context.device.name,
    driver: versionText(context.driver.version),
    cublasLt: library?.version,
    copyGigabytes: rounded(copy / 1e9),
    figures,
  };
  if (values.json === undefined) await writeResult('gemm-fp8', result);
  else writeFileSync(values.json, JSON.stringify(result, undefined, 2));
}
