import { Module } from 'wasmati';
import type { TileFamily } from '../api.ts';
import { memory } from '../wasm/emit.ts';
import { attentionKernels } from './attention.ts';
import { tiles } from './linear.ts';
import { moveKernels } from './moves.ts';
import { rowKernels } from './rows.ts';

/** A kernel as JavaScript calls it: addresses, counts, and float32 arguments as their bits. */
export type KernelCall = (...args: number[]) => void;
export type Kernels = Readonly<Record<string, KernelCall>>;

/** All kernels of a family, as one module's bytes. */
export function emitModule(family: TileFamily): Uint8Array<ArrayBuffer> {
  const exports = {
    ...rowKernels,
    ...moveKernels,
    ...Object.fromEntries(
      (['f32', 'bf16'] as const)
        .flatMap((format) => tiles(family, format).tiles)
        .map((tile) => [tile.name, tile.kernel]),
    ),
    ...Object.fromEntries(
      (['f32', 'bf16'] as const).flatMap((dtype) =>
        Object.entries(attentionKernels(family, dtype)).map(([name, kernel]) => [`${name}_${dtype}`, kernel]),
      ),
    ),
  };
  return new Uint8Array(Module({ memory, exports }).toBytes());
}

export function instantiate(module: WebAssembly.Module, memoryOf: WebAssembly.Memory): Kernels {
  return new WebAssembly.Instance(module, { '': { m0: memoryOf } }).exports as Kernels;
}
