import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileKernel } from '@rose/cute';
import { DeviceMemory, encodeTensorMap, Kernel, type Argument, type DeviceRange } from '@rose/cuda';
import { encode, KERNELS, seededRandom, specialise, type KernelCase, type Specialisation } from '@rose/kernels';
import { openGpu, type Gpu } from '../src/kernel/gpu.ts';
import { withoutGpu } from './linear-rows.ts';

/** Grouped products on a GPU: a row's bits are those of `linear` with its expert's weights, however rows are divided. */

const skip = withoutGpu();
const EXPERTS = 7;
/** A multiple of the experts: also the masked form's. */
const ROWS = 315;

interface Layer {
  readonly columns: number;
  readonly depth: number;
  readonly options: NonNullable<KernelCase['options']>;
}

type Variant = Pick<KernelCase, 'options' | 'tuning'>;

/** The tensors of a layer of experts on the device, and kernels that run on them. */
class Bench implements Disposable {
  readonly gpu: Gpu;
  readonly layer: Layer;
  readonly memory: Readonly<Record<string, DeviceMemory>>;
  /** Bytes of a row of y. */
  readonly pitch: number;
  readonly #kernels = new Map<string, Kernel>();

  constructor(gpu: Gpu, layer: Layer) {
    this.gpu = gpu;
    this.layer = layer;
    // It has all tensors that the others have.
    const s = this.specialised('linear_grouped', ROWS);
    const memory: Record<string, DeviceMemory> = {};
    for (const [index, [name, argument]] of Object.entries(
      moduleOf('linear_grouped').args(s.dims, s.options),
    ).entries()) {
      if (argument.kind === 'scalar') continue;
      const count = argument.shape.reduce((a, b) => a * b, 1);
      const filled = argument.fill?.(seededRandom(7 + index), count) ?? new Float64Array(count);
      const bytes = encode(argument.type, filled);
      memory[name] = new DeviceMemory(gpu.context, bytes.length);
      memory[name].write(bytes);
    }
    this.memory = memory;
    this.pitch = memory.y.bytes / ROWS;
  }

  specialised(name: string, rows: number, more: Variant = {}): Specialisation {
    const { columns, depth, options } = this.layer;
    const dims = { rows, columns, depth, ...(name.includes('grouped') ? { experts: EXPERTS } : {}) };
    return specialise(moduleOf(name), { dims, options: { ...options, ...more.options }, tuning: more.tuning ?? {} });
  }

  /** All rows with the weights of one expert, by `linear`. */
  whole(expert: number): Uint8Array {
    const { gpu, memory } = this;
    using copies = new DisposableStack();
    // An own copy of each: a scale of four bytes among others does not lie as parameters must.
    const part = (name: string): DeviceRange => {
      const bytes = memory[name].bytes / EXPERTS;
      const copy = copies.use(new DeviceMemory(gpu.context, bytes));
      gpu.stream.copy(copy, memory[name].slice(expert * bytes, bytes));
      return copy;
    };
    const own = Object.fromEntries(
      ['w', 'scale', 'bias'].flatMap((name) => (memory[name] ? [[name, part(name)]] : [])),
    );
    return this.launch('linear', this.specialised('linear', ROWS), { ...memory, ...own }, ROWS);
  }

  /** y of `rows` rows that are divided as `groups` says; what nobody wrote is 0xff. */
  grouped(name: string, rows: number, groups: readonly number[], more: Variant): Uint8Array {
    const { gpu, memory } = this;
    using own = new DeviceMemory(gpu.context, 4 * groups.length);
    own.write(new Uint8Array(Int32Array.from(groups).buffer));
    const s = this.specialised(name, rows, more);
    return this.launch(name, s, { ...memory, groups: own }, rows);
  }

  private launch(
    name: string,
    s: Specialisation,
    tensors: Readonly<Record<string, DeviceRange>>,
    rows: number,
  ): Uint8Array {
    const { gpu, memory } = this;
    const module = moduleOf(name);
    const key = JSON.stringify([name, s.options, s.tuning]);
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = new Kernel(gpu.context, compileKernel(module.trace(s), { arch: gpu.arch }).program);
      this.#kernels.set(key, kernel);
    }
    gpu.stream.fill(memory.y, 0xff);
    const maps = module.maps(s);
    const args: Record<string, Argument> = { rows };
    for (const tensor of Object.keys(module.args(s.dims, s.options)).filter((one) => one !== 'rows')) {
      args[tensor] =
        tensor in maps ? encodeTensorMap(gpu.context, { ...maps[tensor], memory: tensors[tensor] }) : tensors[tensor];
    }
    const multiprocessors = gpu.context.device.attribute('multiprocessors');
    kernel
      .prepare()
      .grid(...module.grid(s, { multiprocessors }))
      .args(args)
      .launch(gpu.stream);
    gpu.stream.synchronize();
    const bytes = new Uint8Array(memory.y.bytes);
    memory.y.read(bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
    for (const part of Object.values(this.memory)) part[Symbol.dispose]();
  }
}

function moduleOf(name: string): (typeof KERNELS)[number] {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

const LAYERS: readonly Layer[] = [
  { columns: 320, depth: 1000, options: { bias: true, residual: true } },
  { columns: 264, depth: 768, options: { leaves: 4 } },
  { columns: 192, depth: 1024, options: { leaves: 8, type: 'f16', output: 'f32' } },
  { columns: 528, depth: 768, options: { gate: 'silu', scale: true } },
];

/** Where groups begin and end: equal ones, empty ones, one that has all, a single row, rows of nobody, random ones. */
function splits(): number[][] {
  const random = seededRandom(5);
  const list = [
    Array.from({ length: EXPERTS + 1 }, (_, i) => (i * ROWS) / EXPERTS),
    ...[0, 3, EXPERTS - 1].map((all) => Array.from({ length: EXPERTS + 1 }, (_, i) => (i > all ? ROWS : 0))),
    [0, 0, 0, 1, 1, 1, 1, 1],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [9, 10, 74, 75, 203, 203, 300, 310],
  ];
  for (let i = 0; i < 20; i++) {
    const rows = 1 + random.integer(ROWS);
    const inner = Float64Array.from({ length: EXPERTS - 1 }, () => random.integer(rows + 1)).toSorted();
    list.push([0, ...inner, rows]);
  }
  return list;
}

const VARIANTS: readonly { readonly name: string; readonly tuning: NonNullable<KernelCase['tuning']> }[] = [
  ...[64, 128, 192, 256].flatMap((tile) => [1, 2].map((ctas) => ({ name: 'linear_grouped', tuning: { tile, ctas } }))),
  { name: 'linear_grouped', tuning: { ctas: 4 } },
  ...[8, 16, 32, 64].map((rows) => ({ name: 'linear_grouped_small', tuning: { rows, step: 64, stages: 4 } })),
  { name: 'linear_grouped_small', tuning: { rows: 8, stages: 2, ctas: 1 } },
  ...['16x64', '64x64'].map((tile) => ({ name: 'linear_grouped_mma', tuning: { tile } })),
];

for (const layer of LAYERS) {
  test(`${JSON.stringify(layer)}: rows of experts have the bits of linear`, { skip }, (t) => {
    using gpu = openGpu(0);
    using bench = new Bench(gpu, layer);
    const wholes = Array.from({ length: EXPERTS }, (_, expert) => bench.whole(expert));
    const { pitch } = bench;
    const random = seededRandom(9);
    const capacity = ROWS / EXPERTS;
    let compared = 0;
    for (const { name, tuning } of VARIANTS) {
      try {
        bench.specialised(name, ROWS, { tuning });
      } catch {
        continue; // This tuning is refused for these options.
      }
      for (const starts of splits()) {
        const expected = new Uint8Array(ROWS * pitch).fill(0xff);
        for (let expert = 0; expert < EXPERTS; expert++) {
          const [first, end] = [starts[expert] * pitch, starts[expert + 1] * pitch];
          expected.set(wholes[expert].subarray(first, end), first);
        }
        const y = bench.grouped(name, Math.max(1, starts.at(-1)!), starts, { tuning });
        assert.ok(
          Buffer.compare(y, expected) === 0,
          `${name} ${JSON.stringify(tuning)}: rows divided ${String(starts)}`,
        );
        compared += 1;
      }
      for (let turn = 0; turn < 4; turn++) {
        const counts = Array.from({ length: EXPERTS }, () => random.integer(capacity + 1));
        const expected = new Uint8Array(ROWS * pitch).fill(0xff);
        for (const [expert, count] of counts.entries()) {
          const first = expert * capacity;
          expected.set(wholes[expert].subarray(first * pitch, (first + count) * pitch), first * pitch);
        }
        const y = bench.grouped(name, ROWS, counts, { options: { form: 'masked' }, tuning });
        assert.ok(Buffer.compare(y, expected) === 0, `${name} ${JSON.stringify(tuning)}: masked, ${String(counts)}`);
        compared += 1;
      }
    }
    t.diagnostic(`${compared} runs`);
  });
}
