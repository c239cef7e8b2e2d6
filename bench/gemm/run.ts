/**
 * Matrix products on an NVIDIA GPU beside cuBLASLt in the same run: microseconds, TFLOP/s, GB/s, the share of cuBLAS'
 * speed and of the bandwidth of a device-to-device copy. Graphs are replayed, weights rotate so that the level-2 cache
 * does not serve them. The two take turns, as clocks fall where much is asked of a GPU for long; numbers are medians of
 * the turns' medians.
 *
 *     node --conditions=development --import @rose/cute/register bench/gemm/run.ts
 *       [--only TEXT] [--rows 1,8,512] [--json FILE]
 *
 * Tunings are those of `rose tune` where its tables have one. Without --json the result goes to bench/results.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compileKernel } from '@rose/cute';
import {
  CublasLt,
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Kernel,
  measure,
  versionText,
  type Argument,
} from '@rose/cuda';
import { KERNELS, specialise, type Specialisation } from '@rose/kernels';
import { copyOf, openGpu, tuningsOf } from '../../packages/rose/src/kernel/gpu.ts';
import { circumstances, writeResult } from '../measure/report.ts';
import { randomTensor, rounded } from './tensors.ts';

interface Shape {
  readonly id: string;
  readonly columns: number;
  readonly depth: number;
  readonly rows: readonly number[];
  readonly leaves: 1 | 8;
}

const FEW = [1, 8, 16, 32, 64];
const MANY = [512, 2048, 8192];
const ALL = [...FEW, ...MANY];
const SHAPES: readonly Shape[] = [
  { id: 'cube 8192', columns: 8192, depth: 8192, rows: [8192], leaves: 1 },
  { id: 'qkv', columns: 6144, depth: 4096, rows: ALL, leaves: 1 },
  { id: 'attention output', columns: 4096, depth: 4096, rows: ALL, leaves: 8 },
  { id: 'gate and up', columns: 28672, depth: 4096, rows: ALL, leaves: 1 },
  { id: 'down', columns: 4096, depth: 14336, rows: ALL, leaves: 8 },
  // What the leaf rule costs: the same products in a single loop over the depth.
  { id: 'attention output, one loop', columns: 4096, depth: 4096, rows: ALL, leaves: 1 },
  { id: 'down, one loop', columns: 4096, depth: 14336, rows: ALL, leaves: 1 },
];
/** Bytes of weights that rotate: several times the level-2 cache. */
const ROTATED = 320 * 2 ** 20;
/** Turns of each of the two. */
const TURNS = 5;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    rows: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});
const wantedRows = values.rows.split(',').filter(Boolean).map(Number);

using gpu = openGpu(0);
const { context, stream } = gpu;
const multiprocessors = context.device.attribute('multiprocessors');
const copy = copyOf(gpu);
const tunings = tuningsOf(gpu, console.log);
console.log(`${context.device.name}, ${multiprocessors} multiprocessors, copy ${(copy / 1e9).toFixed(0)} GB/s`);
using library = openLibrary();

function openLibrary(): CublasLt | undefined {
  try {
    return new CublasLt(context);
  } catch (error) {
    if (!(error instanceof CudaUnavailableError)) throw error;
    console.log(error.message);
    return undefined;
  }
}

/** The tensors of a shape: weights in as many copies as rotate. */
interface Tensors {
  readonly x: DeviceMemory;
  readonly w: readonly DeviceMemory[];
  readonly y: DeviceMemory;
}

type Put = (n: number) => void;

/** Compiled for any number of rows. */
const kernels = new Map<string, Kernel>();

function ours(s: Specialisation, name: string, { x, w, y }: Tensors): { put: Put; registers: number | undefined } {
  const module = KERNELS.find((kernel) => kernel.name === name)!;
  const key = JSON.stringify([name, s.dims.columns, s.dims.depth, s.options, s.tuning]);
  let kernel = kernels.get(key);
  if (!kernel) {
    kernel = new Kernel(context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
    kernels.set(key, kernel);
  }
  const maps = module.maps(s);
  const { rows, columns, depth } = s.dims;
  const launches = w.map((weights) => {
    const ranges = { x: x.slice(0, 2 * rows * depth), w: weights, y: y.slice(0, 2 * rows * columns) };
    const args: Record<string, Argument> = { rows };
    for (const [tensor, memory] of Object.entries(ranges)) {
      args[tensor] = tensor in maps ? encodeTensorMap(context, { ...maps[tensor], memory }) : memory;
    }
    return kernel
      .prepare()
      .grid(...module.grid(s, { multiprocessors }))
      .args(args);
  });
  const registers = kernel.resources?.registers;
  return { put: (n) => launches[n % launches.length].launch(stream), registers };
}

function theirs(cublas: CublasLt, rows: number, { columns, depth }: Shape, { x, w, y }: Tensors): Put {
  const product = cublas.product({ m: rows, n: columns, k: depth, input: 'bf16', output: 'bf16' });
  const workspace = product.workspaceBytes > 0 ? { workspace: new DeviceMemory(context, product.workspaceBytes) } : {};
  return (n) => product.run(stream, { x, w: w[n % w.length], y, ...workspace });
}

function middleOf(times: number[]): number {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}

const figures: object[] = [];
for (const shape of SHAPES.filter(({ id }) => id.includes(values.only))) {
  const { columns, depth, leaves } = shape;
  const rowsList = shape.rows.filter((rows) => wantedRows.length === 0 || wantedRows.includes(rows));
  if (rowsList.length === 0) continue;
  const most = Math.max(...rowsList);
  const copies = Math.max(2, Math.ceil(ROTATED / (2 * columns * depth)));
  using x = randomTensor(gpu, most * depth, 1, 1);
  using y = new DeviceMemory(context, 2 * most * columns);
  const w = Array.from({ length: copies }, (_, i) => randomTensor(gpu, columns * depth, 1 / Math.sqrt(depth), 2 + i));
  const tensors = { x, w, y };
  for (const rows of rowsList) {
    const name = rows <= 64 ? 'linear_small' : 'linear';
    const module = KERNELS.find((kernel) => kernel.name === name)!;
    const wanted = { dims: { rows, columns, depth }, options: { leaves } };
    const flops = 2 * rows * columns * depth;
    const bytes = 2 * (rows * depth + columns * depth + rows * columns);
    // About 10 ms of launches in a graph.
    const launches = Math.max(copies, Math.min(60, Math.ceil(1e7 / (flops / 6e5 + bytes / 3e3 + 2e3))));
    const time = (put: Put): number => measure(stream, put, { launches, repeats: 5 }).median;
    const s = specialise(module, wanted, tunings);
    const { put, registers } = ours(s, name, tensors);
    const cublas = library && theirs(library, rows, shape, tensors);
    const turns = Array.from({ length: TURNS }, () => ({ cublas: cublas && time(cublas), own: time(put) }));
    const microseconds = middleOf(turns.map(({ own }) => own));
    const peer = cublas && middleOf(turns.map((turn) => turn.cublas!));
    const figure = {
      ...{ id: shape.id, rows, columns, depth, leaves, kernel: name, tuning: s.tuning, registers },
      ...{ microseconds: rounded(microseconds), teraflops: rounded(flops / microseconds / 1e6) },
      ...{ gigabytes: rounded(bytes / microseconds / 1e3), copyShare: rounded((bytes * 1e6) / microseconds / copy) },
      ...(peer === undefined ? {} : { cublasMicroseconds: rounded(peer), cublasShare: rounded(peer / microseconds) }),
    };
    figures.push(figure);
    console.log(
      `${shape.id.padEnd(26)} ${String(rows).padStart(4)} ${microseconds.toFixed(1).padStart(8)} us ${figure.teraflops.toFixed(0).padStart(4)} TFLOP/s ` +
        `${figure.gigabytes.toFixed(0).padStart(5)} GB/s ${(100 * figure.copyShare).toFixed(0).padStart(3)} % of copy` +
        (peer === undefined ? '' : `, cuBLAS ${peer.toFixed(1)} us: ${((100 * peer) / microseconds).toFixed(0)} %`) +
        ` ${JSON.stringify(s.tuning)}`,
    );
  }
  for (const weights of w) weights[Symbol.dispose]();
}
const result = {
  ...(await circumstances()),
  device: context.device.name,
  driver: versionText(context.driver.version),
  cublasLt: library?.version,
  copyGigabytes: rounded(copy / 1e9),
  figures,
};
if (values.json === undefined) await writeResult('gemm', result);
else writeFileSync(values.json, JSON.stringify(result, undefined, 2));
