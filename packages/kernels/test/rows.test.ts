import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { makeCase } from '../src/check.ts';
import { KERNELS } from '../src/index.ts';
import { specialise, type KernelCase, type KernelModule } from '../src/spec.ts';
import { MULTIPROCESSORS, runCase, SIMULATOR } from './support.ts';

/**
 * The number of rows is a parameter of a launch. One compiled kernel serves every batch, and a launch for a buffer's
 * capacity (its grid, its tensor maps) serves every number of rows in it: what lies in the rows behind the last one may be
 * anything, ids that are none and no numbers included.
 */

interface RowsCase extends Omit<KernelCase, 'dims'> {
  readonly kernel: string;
  /** All but the rows. */
  readonly dims: Readonly<Record<string, number>>;
  readonly rows: number;
  readonly capacity: number;
  /** Rows that are stored together, from multiples of them on, where TMA stores: those behind the last row are, too. */
  readonly stored?: number;
}

const CASES: readonly RowsCase[] = [
  { kernel: 'rmsnorm', dims: { columns: 72 }, options: { residual: true }, rows: 3, capacity: 41 },
  { kernel: 'rmsnorm', dims: { columns: 72 }, tuning: { waves: 1 }, rows: 30, capacity: 41 },
  { kernel: 'layernorm', dims: { columns: 72 }, options: { residual: true }, rows: 3, capacity: 41 },
  { kernel: 'normalize', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'softmax', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'activation', dims: { columns: 72 }, rows: 3, capacity: 41 },
  { kernel: 'quantise', dims: { columns: 72 }, options: { scales: 'row' }, rows: 3, capacity: 41 },
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
    options: { scales: 'row' },
    rows: 5,
    capacity: 150,
    stored: 128,
  },
  { kernel: 'linear_fp8_small', dims: { columns: 72, depth: 144 }, options: { scales: 'row' }, rows: 3, capacity: 13 },
  { kernel: 'linear_fp8_mma', dims: { columns: 72, depth: 144 }, options: { scales: 'row' }, rows: 3, capacity: 41 },
];

const moduleOf = (name: string): KernelModule => KERNELS.find((module) => module.name === name)!;

/** The name of the size that counts rows. */
const sizeOf = (module: KernelModule): string => ('rows' in module.dims ? 'rows' : 'tokens');

for (const { kernel, dims, rows, capacity, stored = 1, ...choice } of CASES) {
  const module = moduleOf(kernel);
  const size = sizeOf(module);
  const withRows = (count: number, more: Partial<KernelCase> = {}): KernelCase => {
    return { ...choice, ...more, dims: { ...dims, [size]: count } };
  };
  const text = [dims, choice.options, choice.tuning].flatMap((part) => (part ? [JSON.stringify(part)] : [])).join(' ');

  test(`${kernel} ${text}: the rows are a parameter, and those behind the last do no harm`, async () => {
    const s = specialise(module, withRows(capacity));
    const ptx = (count: number): string => {
      const own = specialise(module, withRows(count, { tuning: s.tuning }));
      return compileKernel(module.trace(own), { arch: module.arch ?? 'sm_90a' }).program.ptx;
    };
    assert.equal(ptx(rows), ptx(capacity));

    const data = makeCase(module, s);
    const shapes = module.args(s.dims, s.options);
    const perRow = Object.keys(shapes).filter((name) => {
      const argument = shapes[name];
      return argument.kind === 'tensor' && argument.shape[0] === capacity;
    });
    const given: Record<string, Uint8Array> = {};
    for (const [name, argument] of Object.entries(data.args)) {
      if (typeof argument === 'number' || shapes[name].kind === 'scalar') continue;
      const bytes = argument.bytes.subarray(argument.offset, argument.offset + argument.length);
      if (!perRow.includes(name)) given[name] = bytes.slice();
      else {
        given[name] = bytes.slice(0, (bytes.length / capacity) * rows);
        bytes.fill(0xff, given[name].length);
      }
    }
    // The rows alone, in buffers that end with them.
    const alone = await runCase(module, withRows(rows, { tuning: s.tuning }), given);
    const args = { ...data.args, [size]: rows };
    await SIMULATOR.run(module.trace(s), args, module.grid(s, { multiprocessors: MULTIPROCESSORS }));
    for (const name of perRow) {
      const argument = shapes[name];
      const after = data.args[name];
      if (typeof after === 'number' || argument.kind === 'scalar' || argument.role === 'in') continue;
      const bytes = after.bytes.subarray(after.offset, after.offset + after.length);
      assert.deepEqual(bytes.slice(0, alone[name].length), Uint8Array.from(alone[name]), `${name} of the rows`);
      const end = Math.min(capacity, Math.ceil(rows / stored) * stored);
      const behind = bytes.subarray((bytes.length / capacity) * end);
      assert.ok(
        behind.every((byte) => byte === 0xff),
        `${name} is left as it is from row ${end} on`,
      );
    }
  });
}
