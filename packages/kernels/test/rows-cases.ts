import assert from 'node:assert/strict';
import { compileKernel } from '@rose/cute';
import { makeCase, type ExecutorArgument } from '../src/check.ts';
import { KERNELS, scalePitch } from '../src/index.ts';
import { specialise, type KernelCase, type KernelModule, type Specialisation } from '../src/spec.ts';

/**
 * The number of rows is a parameter of a launch. One compiled kernel serves every batch, and a launch for a buffer's
 * capacity (its grid, its tensor maps) serves every number of rows in it: what lies in the rows behind the last one may be
 * anything, ids that are none and no numbers included.
 */

export interface RowsCase extends Omit<KernelCase, 'dims'> {
  readonly kernel: string;
  /** All but the rows. */
  readonly dims: Readonly<Record<string, number>>;
  readonly rows: number;
  readonly capacity: number;
  /** Rows that are stored together, from multiples of them on, where TMA stores: those behind the last row are, too. */
  readonly stored?: number;
}

export const ROWS_CASES: readonly RowsCase[] = [
  { kernel: 'rmsnorm', dims: { columns: 72 }, options: { residual: true }, rows: 3, capacity: 41 },
  { kernel: 'rmsnorm', dims: { columns: 72 }, tuning: { waves: 1 }, rows: 30, capacity: 41 },
  { kernel: 'layernorm', dims: { columns: 72 }, options: { residual: true }, rows: 3, capacity: 41 },
  { kernel: 'normalize', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'softmax', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'activation', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'quantise', dims: { columns: 72 }, options: { scales: 'row' }, rows: 3, capacity: 41 },
  { kernel: 'quantise', dims: { columns: 128 }, rows: 3, capacity: 43 },
  { kernel: 'quantise', dims: { columns: 72 }, options: { scales: 'tensor' }, rows: 3, capacity: 41 },
  { kernel: 'embedding', dims: { columns: 72, vocabulary: 9 }, rows: 3, capacity: 41 },
  {
    kernel: 'embedding',
    dims: { columns: 72, vocabulary: 9, positions: 7, types: 2, drawn: 5 },
    options: { positions: true, types: true, fed: true },
    rows: 3,
    capacity: 41,
  },
  { kernel: 'linear', dims: { columns: 72, depth: 136 }, rows: 130, capacity: 300, stored: 128 },
  {
    kernel: 'linear',
    dims: { columns: 256, depth: 64 },
    options: { residual: true, bias: true },
    tuning: { tile: 128, ctas: 2 },
    rows: 5,
    capacity: 300,
    stored: 256,
  },
  { kernel: 'linear', dims: { columns: 72, depth: 64 }, options: { output: 'f32' }, rows: 130, capacity: 140 },
  { kernel: 'linear_small', dims: { columns: 72, depth: 136 }, options: { residual: true }, rows: 3, capacity: 13 },
  { kernel: 'linear_mma', dims: { columns: 72, depth: 136 }, options: { residual: true }, rows: 3, capacity: 41 },
  { kernel: 'linear_f32', dims: { columns: 41, depth: 36 }, options: { residual: true }, rows: 3, capacity: 13 },
  { kernel: 'linear_tcgen05', dims: { columns: 72, depth: 136 }, rows: 5, capacity: 300, stored: 256 },
  {
    kernel: 'linear_fp8',
    dims: { columns: 72, depth: 144 },
    rows: 5,
    capacity: 150,
    stored: 128,
  },
  { kernel: 'linear_fp8_small', dims: { columns: 72, depth: 144 }, rows: 3, capacity: 13 },
  { kernel: 'linear_fp8_mma', dims: { columns: 72, depth: 144 }, rows: 3, capacity: 41 },
];

/** Runs a case's kernel on its arguments, whose bytes it changes. */
export type RunRows = (
  module: KernelModule,
  s: Specialisation,
  args: Readonly<Record<string, ExecutorArgument>>,
) => void | Promise<void>;

export function textOf({ kernel, dims, options, tuning }: RowsCase): string {
  const parts = [dims, options, tuning].flatMap((part) => (part ? [JSON.stringify(part)] : []));
  return [kernel, ...parts].join(' ');
}

/** Runs a case's rows alone, and in buffers of its capacity, by a launch for the capacity. */
export async function compareRows(
  { kernel, dims, rows, capacity, stored = 1, ...choice }: RowsCase,
  run: RunRows,
): Promise<void> {
  const module = KERNELS.find(({ name }) => name === kernel)!;
  const size = 'rows' in module.dims ? 'rows' : 'tokens';
  const withRows = (count: number, more: Partial<KernelCase> = {}): Specialisation =>
    specialise(module, { ...choice, ...more, dims: { ...dims, [size]: count } });
  const s = withRows(capacity);
  const exact = withRows(rows, { tuning: s.tuning });
  const ptx = (own: Specialisation): string =>
    compileKernel(module.trace(own), { arch: module.arch ?? 'sm_90a' }).program.ptx;
  assert.equal(ptx(exact), ptx(s));

  const shapes = module.args(s.dims, s.options);
  const [{ args }, alone] = [makeCase(module, s), makeCase(module, exact)];
  const [outputs, scales]: string[][] = [[], []];
  for (const [name, tensor] of Object.entries(args)) {
    const [shape, own] = [shapes[name], alone.args[name]];
    if (typeof tensor === 'number' || typeof own === 'number' || shape.kind === 'scalar') continue;
    const bytes = bytesOf(tensor);
    if (isGrouped(name, shape.shape, capacity)) {
      bytesOf(own).set(scalesOf(bytes, capacity, rows));
      if (shape.role !== 'in') scales.push(name);
      continue;
    }
    bytesOf(own).set(bytes.subarray(0, own.length));
    if (shape.shape[0] !== capacity) continue;
    bytes.fill(0xff, own.length);
    if (shape.role !== 'in') outputs.push(name);
  }
  await run(module, exact, alone.args);
  await run(module, s, { ...args, [size]: rows });
  for (const name of scales) {
    const after = scalesOf(bytesOf(args[name]), capacity, rows);
    assert.deepEqual(after, Uint8Array.from(bytesOf(alone.args[name])), `${name} of the rows`);
  }
  for (const name of outputs) {
    const [after, expected] = [bytesOf(args[name]), bytesOf(alone.args[name])];
    assert.deepEqual(after.slice(0, expected.length), Uint8Array.from(expected), `${name} of the rows`);
    const end = Math.min(capacity, Math.ceil(rows / stored) * stored);
    const behind = after.subarray((after.length / capacity) * end);
    assert.ok(
      behind.every((byte) => byte === 0xff),
      `${name} is left as it is from row ${end} on`,
    );
  }
}

/** Whether a tensor has scales of groups, [groups, pitch]. */
function isGrouped(name: string, shape: readonly number[], capacity: number): boolean {
  return ['scales', 'xScale'].includes(name) && shape[0] !== capacity && shape[0] % scalePitch(capacity) === 0;
}

/** Scales of groups for so many rows, from those for a capacity. */
function scalesOf(bytes: Uint8Array, capacity: number, rows: number): Uint8Array {
  const [from, to] = [4 * scalePitch(capacity), 4 * scalePitch(rows)];
  return Uint8Array.from({ length: (bytes.length / from) * to }, (_none, at) => {
    const inside = at % to;
    return inside < 4 * rows ? bytes[Math.floor(at / to) * from + inside] : 0xff;
  });
}

function bytesOf(tensor: ExecutorArgument): Uint8Array {
  assert.ok(typeof tensor !== 'number');
  return tensor.bytes.subarray(tensor.offset, tensor.offset + tensor.length);
}
