import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { checkKernel, formatReport, seededRandom, specialise, type KernelCase } from '@rose/kernels';
import { gpuExecutor, openGpu } from '../src/kernel/gpu.ts';
import { Bench, module, sizesOf, withoutGpu, type Layer } from './linear-rows.ts';

/** Matrix products on a GPU: a row's bits in every kernel, tile, number of rows and position; and sizes beyond the simulator. */

const skip = withoutGpu();
/** Every number of rows to this one. */
const ROWS = 300;

const base = 'linear_mma';
const LAYERS: readonly Layer[] = [
  { base, columns: 320, depth: 1000, options: { bias: true, residual: true } },
  { base, columns: 136, depth: 200, options: { bias: true, activation: 'gelu', residual: true } },
  { base, columns: 64, depth: 320, options: { activation: 'tanh', output: 'f32' } },
  { base, columns: 256, depth: 4096, options: { leaves: 8 } },
  { base, columns: 192, depth: 14336, options: { leaves: 8, type: 'f16', output: 'f32' } },
  { base, columns: 512, depth: 768, options: { gate: 'silu', scale: true, leaves: 4 } },
];

for (const layer of LAYERS) {
  test(`${JSON.stringify(layer)}: equal bits for 1 to ${ROWS} rows, everywhere`, { skip }, (t) => {
    using gpu = openGpu(0);
    using bench = new Bench(gpu, layer, ROWS, 7);
    const whole = bench.run('linear', 0, ROWS).slice();
    const random = seededRandom(3);
    let compared = 0;
    for (let rows = 1; rows <= ROWS; rows++) {
      const first = random.integer(ROWS - rows + 1);
      const expected = whole.subarray(first * bench.pitch.y, (first + rows) * bench.pitch.y);
      for (const name of ['linear', 'linear_mma', ...(rows <= 64 ? ['linear_small'] : [])]) {
        const y = bench.run(name, first, rows);
        assert.ok(Buffer.compare(y, expected) === 0, `${name}: rows ${first} to ${first + rows} differ`);
        compared += 1;
      }
    }
    for (const split of [1, 2, 4, 8].filter((ctas) => ctas <= Number(layer.options['leaves'] ?? 1))) {
      const y = bench.run('linear_small', 5, 31, { split, stages: 3 });
      assert.ok(Buffer.compare(y, whole.subarray(5 * bench.pitch.y, 36 * bench.pitch.y)) === 0, `split ${split}`);
      compared += 1;
    }
    for (const share of [2, 4, 8]) {
      const y = bench.run('linear_small', 5, 57, { rows: 64, share, split: 1, stages: 3 });
      assert.ok(Buffer.compare(y, whole.subarray(5 * bench.pitch.y, 62 * bench.pitch.y)) === 0, `share ${share}`);
      compared += 1;
    }
    for (const tile of [64, 128, 192, 256]) {
      for (const ctas of [1, 2]) {
        try {
          specialise(module('linear'), {
            dims: sizesOf(layer, ROWS),
            options: layer.options,
            tuning: { tile, ctas },
          });
        } catch {
          continue; // This tile is refused for these options.
        }
        const y = bench.run('linear', 0, ROWS, { tile, ctas, band: 4 });
        assert.ok(Buffer.compare(y, whole) === 0, `a tile of ${tile} columns, ${ctas} CTAs`);
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
  const whole = bench.run('linear', 0, rows).slice();
  const random = seededRandom(5);
  for (let i = 0; i < 30; i++) {
    const count = 1 + random.integer(rows);
    const first = random.integer(rows - count + 1);
    const expected = whole.subarray(first * bench.pitch.y, (first + count) * bench.pitch.y);
    for (const name of ['linear', ...(count <= 64 ? ['linear_small'] : ['linear_mma'])]) {
      assert.ok(
        Buffer.compare(bench.run(name, first, count), expected) === 0,
        `${name}: ${count} rows from ${first} on`,
      );
    }
  }
});

test('q, k and v have the bits of the product in one piece', { skip }, () => {
  using gpu = openGpu(0);
  for (const [keys, values] of [
    [256, 128],
    [72, 200],
  ]) {
    const layer = { base, columns: 1024, depth: 1536, options: { bias: true, scale: true } };
    using whole = new Bench(gpu, layer, ROWS, 13);
    using split = new Bench(
      gpu,
      { ...layer, options: { ...layer.options, split: 'qkv' }, split: { keys, values } },
      ROWS,
      13,
    );
    for (const name of ['x', 'w', 'bias']) {
      const bytes = new Uint8Array(whole.memory[name].bytes);
      whole.memory[name].read(bytes);
      split.memory[name].write(bytes);
    }
    const expected = whole.run('linear', 0, ROWS);
    for (const [name, rows] of [
      ['linear', ROWS],
      ['linear_mma', ROWS],
      ['linear_small', 33],
    ] as const) {
      const y = split.run(name, 0, rows);
      assert.ok(
        Buffer.compare(y, expected.subarray(0, y.length)) === 0,
        `${name} with ${keys} columns of k, ${values} of v`,
      );
    }
  }
});

const SIZES: readonly (KernelCase & { readonly name: string })[] = [1, 15, 17, 127, 129, 251].flatMap((rows) =>
  ['linear', 'linear_mma', ...(rows <= 64 ? ['linear_small'] : [])].map((name) => ({
    name,
    dims: { rows, columns: 528, depth: 1024 },
    options: { leaves: rows % 2 === 0 ? 1 : 8, bias: true, gate: rows % 4 === 1 ? 'gelu' : 'none' },
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
