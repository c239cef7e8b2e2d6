import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import {
  CudaUnavailableError,
  DeviceMemory,
  encodeTensorMap,
  Kernel,
  listDevices,
  loadDriver,
  type Argument,
  type DeviceRange,
} from '@rose/cuda';
import { checkKernel, encode, formatReport, KERNELS, seededRandom, specialise, type KernelCase } from '@rose/kernels';
import { gpuExecutor, openGpu, type Gpu } from '../src/kernel/gpu.ts';

/** Matrix products on a GPU: a row's bits in every kernel, tile, number of rows and position; and sizes beyond the simulator. */

function withoutGpu(): string | false {
  try {
    return listDevices(loadDriver())[0]?.capability === 90 ? false : 'no Hopper GPU (compute capability 9.0)';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

const skip = withoutGpu();
/** Every number of rows to this one. */
const ROWS = 300;

function module(name: string): (typeof KERNELS)[number] {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

interface Layer {
  readonly columns: number;
  readonly depth: number;
  readonly options: NonNullable<KernelCase['options']>;
  /** Columns of k and v, where y is split. */
  readonly split?: { readonly keys: number; readonly values: number };
}

function sizesOf({ columns, depth, split }: Layer, rows: number): KernelCase['dims'] {
  return { rows, columns, depth, ...split };
}

/** The tensors of a layer on the device, x and residual with all rows; kernels that run on some of them. */
class Bench implements Disposable {
  readonly gpu: Gpu;
  readonly layer: Layer;
  readonly memory: Readonly<Record<string, DeviceMemory>>;
  /** y, or q, k and v. */
  readonly outputs: readonly string[];
  /** Bytes of a row of x, residual and the outputs. */
  readonly pitch: Readonly<Record<string, number>>;
  readonly #kernels = new Map<string, Kernel>();

  constructor(gpu: Gpu, layer: Layer, rows: number, seed: number) {
    this.gpu = gpu;
    this.layer = layer;
    const s = specialise(module('linear_mma'), { dims: sizesOf(layer, rows), options: layer.options });
    const memory: Record<string, DeviceMemory> = {};
    const pitch: Record<string, number> = {};
    const outputs: string[] = [];
    for (const [index, [name, argument]] of Object.entries(module('linear_mma').args(s.dims, s.options)).entries()) {
      if (argument.kind === 'scalar') continue;
      const count = argument.shape.reduce((a, b) => a * b, 1);
      const bytes = encode(
        argument.type,
        argument.fill?.(seededRandom(seed + index), count) ?? new Float64Array(count),
      );
      memory[name] = new DeviceMemory(gpu.context, bytes.length);
      // A row of zeros, whose sums are zeros of either sign.
      if (name === 'x') bytes.fill(0, 2 * layer.depth * 6, 2 * layer.depth * 7);
      memory[name].write(bytes);
      if (argument.shape[0] === rows) pitch[name] = bytes.length / rows;
      if (argument.role === 'out') outputs.push(name);
    }
    this.memory = memory;
    this.pitch = pitch;
    this.outputs = outputs;
  }

  /** y of `rows` rows from row `first` on; where it is split, the rows of q, k and v side by side. */
  run(name: string, first: number, rows: number, tuning: KernelCase['tuning'] = {}): Uint8Array {
    const { gpu, memory, pitch, layer } = this;
    const s = specialise(module(name), { dims: sizesOf(layer, rows), options: layer.options, tuning });
    const key = `${name} ${JSON.stringify(s.tuning)}`;
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = new Kernel(gpu.context, compileKernel(module(name).trace(s), { arch: gpu.arch }).program);
      this.#kernels.set(key, kernel);
    }
    for (const output of this.outputs) gpu.stream.fill(memory[output], 0xff);
    const maps = module(name).maps(s);
    const args: Record<string, Argument> = { rows };
    for (const [tensor, whole] of Object.entries(memory)) {
      const own = pitch[tensor];
      const part: DeviceRange =
        own === undefined ? whole : whole.slice(this.outputs.includes(tensor) ? 0 : first * own, rows * own);
      args[tensor] = tensor in maps ? encodeTensorMap(gpu.context, { ...maps[tensor], memory: part }) : part;
    }
    const multiprocessors = gpu.context.device.attribute('multiprocessors');
    kernel
      .prepare()
      .grid(...module(name).grid(s, { multiprocessors }))
      .args(args)
      .launch(gpu.stream);
    gpu.stream.synchronize();
    const parts = this.outputs.map((output) => {
      const bytes = new Uint8Array(memory[output].bytes);
      memory[output].read(bytes);
      assert.ok(
        bytes.subarray(rows * pitch[output]).every((byte) => byte === 0xff),
        `${key}: nothing is written behind ${output}`,
      );
      return { bytes, own: pitch[output] };
    });
    return Buffer.concat(
      Array.from({ length: rows }, (_, row) =>
        parts.map(({ bytes, own }) => bytes.subarray(row * own, (row + 1) * own)),
      ).flat(),
    );
  }

  [Symbol.dispose](): void {
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
    for (const part of Object.values(this.memory)) part[Symbol.dispose]();
  }
}

const LAYERS: readonly Layer[] = [
  { columns: 320, depth: 1000, options: { bias: true, residual: true } },
  { columns: 256, depth: 4096, options: { leaves: 8 } },
  { columns: 192, depth: 14336, options: { leaves: 8, type: 'f16', output: 'f32' } },
  { columns: 512, depth: 768, options: { gate: 'silu', scale: true, leaves: 4 } },
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
  using bench = new Bench(gpu, { columns: 1152, depth: 1024, options: { leaves: 8 } }, rows, 11);
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
    const layer = { columns: 1024, depth: 1536, options: { bias: true, scale: true } };
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
