import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { checkKernel, formatReport, seededRandom, specialise, type KernelCase } from '@rose/kernels';
import { compareRows, ROWS_CASES, textOf } from '../../kernels/test/rows-cases.ts';
import { gpuExecutor, openGpu } from '../src/kernel/gpu.ts';
import { Bench, module, withoutGpu } from './linear-rows.ts';

/** Kernels over rows on a GPU: rows of a larger buffer, products in plain float32, sizes beyond the simulator. */

const skip = withoutGpu();

for (const wanted of ROWS_CASES) {
  test(`${textOf(wanted)}: rows behind the last do no harm`, { skip }, async (t) => {
    using gpu = openGpu(0);
    const { arch } = module(wanted.kernel);
    if (arch !== undefined && arch !== gpu.arch) return t.skip(`for ${arch}`);
    const executor = gpuExecutor(gpu, t.diagnostic.bind(t));
    const multiprocessors = gpu.context.device.attribute('multiprocessors');
    await compareRows(wanted, (of, s, args) =>
      executor.run(compileKernel(of.trace(s), { arch: gpu.arch }), args, of.grid(s, { multiprocessors })),
    );
  });
}

test('linear_f32: equal bits for every number of rows, everywhere, in every tile', { skip }, () => {
  using gpu = openGpu(0);
  const rows = 150;
  const options = { leaves: 2, bias: true, gate: 'silu', residual: true };
  using bench = new Bench(gpu, { base: 'linear_f32', columns: 272, depth: 1152, options }, rows, 3);
  const whole = bench.run('linear_f32', 0, rows, { tile: '128x128', stages: 2 }).slice();
  const random = seededRandom(3);
  for (let count = 1; count <= rows; count++) {
    const first = random.integer(rows - count + 1);
    const expected = whole.subarray(first * bench.pitch.y, (first + count) * bench.pitch.y);
    for (const tile of ['64x64', '16x32', '128x64']) {
      const y = bench.run('linear_f32', first, count, { tile, stages: 2 });
      assert.ok(Buffer.compare(y, expected) === 0, `${tile}: ${count} rows from ${first} on`);
    }
  }
});

const SIZES: readonly (KernelCase & { readonly name: string })[] = [
  { name: 'linear_f32', dims: { rows: 300, columns: 515, depth: 1024 }, options: { leaves: 8, activation: 'tanh' } },
  { name: 'linear_f32', dims: { rows: 200, columns: 2, depth: 768 }, options: { type: 'bf16', output: 'f32' } },
  { name: 'pool', dims: { sequences: 64, rows: 9000, columns: 768 } },
  { name: 'pool', dims: { sequences: 3, rows: 9000, columns: 768 }, options: { kind: 'max', type: 'f32' } },
  { name: 'normalize', dims: { rows: 300, columns: 1024 } },
  { name: 'layernorm', dims: { rows: 3000, columns: 768 }, options: { residual: true, sum: false } },
  { name: 'layernorm', dims: { rows: 30, columns: 16384 }, options: { residual: true, type: 'f32' } },
  {
    name: 'embedding',
    dims: { tokens: 3000, columns: 768, vocabulary: 30522, positions: 512, types: 2, drawn: 9 },
    options: { positions: true, types: true, fed: true },
  },
];

for (const { name, ...wanted } of SIZES) {
  test(`${name} ${JSON.stringify(wanted.dims)} against float64`, { skip }, async (t) => {
    using gpu = openGpu(0);
    const s = specialise(module(name), wanted);
    const compiled = compileKernel(module(name).trace(s), { arch: gpu.arch });
    const multiprocessors = gpu.context.device.attribute('multiprocessors');
    const report = await checkKernel(module(name), s, gpuExecutor(gpu, t.diagnostic.bind(t)), compiled, {
      multiprocessors,
    });
    assert.ok(report.passed, formatReport(report));
  });
}
