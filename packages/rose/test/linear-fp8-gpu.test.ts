import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel, simulate } from '@rose/cute';
import {
  checkKernel,
  formatReport,
  makeCase,
  seededRandom,
  simulatorArguments,
  specialise,
  type KernelCase,
} from '@rose/kernels';
import { gpuExecutor, openGpu } from '../src/kernel/gpu.ts';
import { Bench, module, sizesOf, withoutGpu, type Layer } from './linear-rows.ts';

/** Products of e4m3 on a GPU: a row's bits in every tile, number of rows and position; and sizes beyond the simulator. */

const skip = withoutGpu();
/** Every number of rows to this one. */
const ROWS = 300;

const base = 'linear_fp8';
const LAYERS: readonly Layer[] = [
  { base, columns: 328, depth: 1040, options: { bias: true, residual: true } },
  { base, columns: 256, depth: 4096, options: { leaves: 8 } },
  { base, columns: 192, depth: 14336, options: { leaves: 8, scales: 'row', type: 'f16', output: 'f32' } },
  { base, columns: 512, depth: 1024, options: { gate: 'silu', leaves: 4 } },
  { base, columns: 320, depth: 512, options: { scales: 'tensor', split: 'qkv' }, split: { keys: 128, values: 64 } },
];

for (const layer of LAYERS) {
  test(`${JSON.stringify(layer)}: equal bits for 1 to ${ROWS} rows, everywhere`, { skip }, (t) => {
    using gpu = openGpu(0);
    using bench = new Bench(gpu, layer, ROWS, 7);
    const whole = bench.run('linear_fp8', 0, ROWS).slice();
    const own = whole.length / ROWS;
    const random = seededRandom(3);
    let compared = 0;
    for (let rows = 1; rows <= ROWS; rows++) {
      const first = random.integer(ROWS - rows + 1);
      const expected = whole.subarray(first * own, (first + rows) * own);
      for (const name of ['linear_fp8', ...(rows <= 64 ? ['linear_fp8_small'] : [])]) {
        const y = bench.run(name, first, rows);
        assert.ok(Buffer.compare(y, expected) === 0, `${name}: rows ${first} to ${first + rows} differ`);
        compared += 1;
      }
    }
    for (const split of [1, 2, 4, 8].filter((ctas) => ctas <= Number(layer.options['leaves'] ?? 1))) {
      for (const groups of [1, 2]) {
        const y = bench.run('linear_fp8_small', 5, 31, { split, groups, stages: 3 });
        assert.ok(Buffer.compare(y, whole.subarray(5 * own, 36 * own)) === 0, `split ${split}, ${groups} groups`);
        compared += 1;
      }
    }
    for (const share of [2, 4]) {
      const y = bench.run('linear_fp8_small', 5, 31, { rows: 32, share, split: 1, stages: 3 });
      assert.ok(Buffer.compare(y, whole.subarray(5 * own, 36 * own)) === 0, `x shared by ${share} CTAs`);
      compared += 1;
    }
    for (const tile of [64, 128, 192]) {
      for (const [ctas, turns] of [
        [1, 1],
        [2, 2],
        [4, 1],
      ]) {
        const tuning = { tile, turns, ctas, band: 4 };
        try {
          specialise(module('linear_fp8'), { dims: sizesOf(layer, ROWS), options: layer.options, tuning });
        } catch {
          continue; // This tile is refused for these options.
        }
        assert.ok(Buffer.compare(bench.run('linear_fp8', 0, ROWS, tuning), whole) === 0, JSON.stringify(tuning));
        compared += 1;
      }
    }
    t.diagnostic(`${compared} runs`);
  });
}

test('many rows against few', { skip }, () => {
  using gpu = openGpu(0);
  const rows = 1500;
  using bench = new Bench(gpu, { base, columns: 1152, depth: 1024, options: { leaves: 8 } }, rows, 11);
  const whole = bench.run('linear_fp8', 0, rows).slice();
  const random = seededRandom(5);
  for (let i = 0; i < 30; i++) {
    const count = i % 2 === 0 ? 1 + random.integer(64) : 1 + random.integer(rows);
    const first = random.integer(rows - count + 1);
    const expected = whole.subarray(first * bench.pitch.y, (first + count) * bench.pitch.y);
    const name = count <= 64 ? 'linear_fp8_small' : 'linear_fp8';
    const y = bench.run(name, first, count);
    assert.ok(Buffer.compare(y, expected) === 0, `${name}: ${count} rows from ${first} on`);
  }
});

for (const name of ['linear_fp8', 'linear_fp8_small']) {
  test(`${name}: the simulator has the bits of the GPU`, { skip }, async (t) => {
    using gpu = openGpu(0);
    for (const scales of ['block', 'tensor']) {
      const s = specialise(module(name), {
        dims: { rows: 40, columns: 64, depth: 1024 },
        options: { scales, leaves: 4, output: 'f32' },
      });
      const ir = module(name).trace(s);
      const grid = module(name).grid(s, { multiprocessors: 132 });
      const [real, simulated] = [makeCase(module(name), s).args, makeCase(module(name), s).args];
      await gpuExecutor(gpu, t.diagnostic.bind(t)).run(compileKernel(ir, { arch: gpu.arch }), real, grid);
      simulate(ir, { grid, args: simulatorArguments(simulated) });
      assert.ok(typeof real.y !== 'number' && typeof simulated.y !== 'number');
      assert.deepEqual(simulated.y.bytes, real.y.bytes, scales);
    }
  });
}

const SIZES: readonly (KernelCase & { readonly name: string })[] = [1, 15, 17, 127, 129, 251].flatMap((rows) =>
  ['linear_fp8', 'linear_fp8_mma', ...(rows <= 64 ? ['linear_fp8_small'] : [])].map((name) => ({
    name,
    dims: { rows, columns: 528, depth: 1024 },
    options: {
      leaves: rows % 2 === 0 ? 1 : 8,
      bias: true,
      gate: rows % 4 === 1 ? 'gelu' : 'none',
      scales: rows > 100 ? 'row' : 'block',
    },
  })),
);

for (const { name, ...wanted } of SIZES) {
  test(`${name} ${JSON.stringify(wanted.dims)} against float64`, { skip }, async (t) => {
    using gpu = openGpu(0);
    const s = specialise(module(name), wanted);
    const compiled = compileKernel(module(name).trace(s), { arch: gpu.arch });
    const multiprocessors = gpu.context.device.attribute('multiprocessors');
    const report = await checkKernel(module(name), s, gpuExecutor(gpu, t.diagnostic.bind(t)), compiled, {
      multiprocessors,
      seed: wanted.dims.rows,
    });
    assert.ok(report.passed, formatReport(report));
    assert.ok(report.outputs[0].relative < 1e-2, formatReport(report));
  });
}
