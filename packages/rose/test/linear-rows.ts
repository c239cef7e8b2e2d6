import assert from 'node:assert/strict';
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
import { encode, KERNELS, scalePitch, seededRandom, specialise, type KernelCase } from '@rose/kernels';
import type { Gpu } from '../src/kernel/gpu.ts';

/** Layers on a GPU whose products are computed of all rows and of some. */

/** Why there is no Hopper GPU, or false where there is one. */
export function withoutGpu(): string | false {
  try {
    return listDevices(loadDriver())[0]?.capability === 90 ? false : 'no Hopper GPU (compute capability 9.0)';
  } catch (error) {
    if (error instanceof CudaUnavailableError) return error.message;
    throw error;
  }
}

/** The kernel of that name. */
export function module(name: string): (typeof KERNELS)[number] {
  return KERNELS.find((kernel) => kernel.name === name)!;
}

export interface Layer {
  /** The kernel that its tensors are made for, which takes every number of rows. */
  readonly base: string;
  readonly columns: number;
  readonly depth: number;
  readonly options: NonNullable<KernelCase['options']>;
  /** Columns of k and v, where y is split. */
  readonly split?: { readonly keys: number; readonly values: number };
}

export function sizesOf({ columns, depth, split }: Layer, rows: number): KernelCase['dims'] {
  return { rows, columns, depth, ...split };
}

/** The tensors of a layer on the device, x and residual with all rows; kernels that run on some of them. */
export class Bench implements Disposable {
  readonly gpu: Gpu;
  readonly layer: Layer;
  readonly rows: number;
  readonly memory: Readonly<Record<string, DeviceMemory>>;
  /** y, or q, k and v. */
  readonly outputs: readonly string[];
  /** Bytes of a row of x, residual and the outputs. */
  readonly pitch: Readonly<Record<string, number>>;
  readonly #kernels = new Map<string, Kernel>();
  /** xScale, which is written anew: scales of some rows begin anywhere, and those of groups have another pitch. */
  readonly #scales: Float32Array | undefined;

  constructor(gpu: Gpu, layer: Layer, rows: number, seed: number) {
    this.gpu = gpu;
    this.layer = layer;
    const s = specialise(module(layer.base), { dims: sizesOf(layer, rows), options: layer.options });
    this.rows = rows;
    const memory: Record<string, DeviceMemory> = {};
    const pitch: Record<string, number> = {};
    const outputs: string[] = [];
    for (const [index, [name, argument]] of Object.entries(module(layer.base).args(s.dims, s.options)).entries()) {
      if (argument.kind === 'scalar') continue;
      const count = argument.shape.reduce((a, b) => a * b, 1);
      const bytes = encode(
        argument.type,
        argument.fill?.(seededRandom(seed + index), count) ?? new Float64Array(count),
      );
      memory[name] = new DeviceMemory(gpu.context, bytes.length);
      const own = bytes.length / rows;
      // A row of zeros, whose sums are zeros of either sign.
      if (name === 'x') bytes.fill(0, own * 6, own * 7);
      memory[name].write(bytes);
      if (name === 'xScale' && count > 1) this.#scales = new Float32Array(bytes.slice().buffer);
      else if (argument.shape[0] === rows) pitch[name] = own;
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
    if (this.#scales) memory.xScale.write(this.#scalesOf(this.#scales, first, rows));
    const maps = module(name).maps(s);
    const ofGroups = 'pitch' in module(name).args(s.dims, s.options);
    const args: Record<string, Argument> = { rows, ...(ofGroups ? { pitch: scalePitch(rows) } : {}) };
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

  #scalesOf(all: Float32Array, first: number, rows: number): Uint8Array {
    const ofGroups = (this.layer.options['scales'] ?? 'block') === 'block';
    const [pitch, from] = ofGroups ? [scalePitch(rows), scalePitch(this.rows)] : [rows, this.rows];
    const scales = new Float32Array(all.length).fill(NaN);
    for (let group = 0; group < all.length / from; group++) {
      scales.set(all.subarray(group * from + first, group * from + first + rows), group * pitch);
    }
    return new Uint8Array(scales.buffer);
  }

  [Symbol.dispose](): void {
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
    for (const part of Object.values(this.memory)) part[Symbol.dispose]();
  }
}
