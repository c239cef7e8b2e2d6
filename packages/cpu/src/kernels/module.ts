import { Module } from 'wasmati';
import type { TileFamily } from '../api.ts';
import { memory, type Kernel } from '../wasm/emit.ts';
import { attentionKernels } from './attention.ts';
import { tileKernels } from './linear.ts';
import { moveKernels } from './moves.ts';
import { quantizeKernels } from './quantize.ts';
import { quantizedKernels, type NibbleSums } from './quantized.ts';
import { rowKernels } from './rows.ts';

/** All kernels of a family, as one module's bytes. */
export function emitModule(family: TileFamily, nibbleSums: NibbleSums): Uint8Array<ArrayBuffer> {
  return bytesOf({
    ...rowKernels,
    ...moveKernels,
    ...quantizeKernels,
    ...quantizedKernels(family, nibbleSums),
    ...linearKernels(family),
    ...Object.fromEntries(
      (['f32', 'bf16'] as const).flatMap((dtype) =>
        Object.entries(attentionKernels(family, dtype)).map(([name, kernel]) => [`${name}_${dtype}`, kernel]),
      ),
    ),
  });
}

/** Only what packing and multiplying a matrix needs: enough to check and time a family. */
export function emitTiles(family: TileFamily): Uint8Array<ArrayBuffer> {
  return bytesOf({ ...moveKernels, ...linearKernels(family) });
}

function linearKernels(family: TileFamily): Record<string, Kernel> {
  return { ...tileKernels(family, 'f32'), ...tileKernels(family, 'bf16') };
}

function bytesOf(exports: Record<string, Kernel>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Module({ memory, exports }).toBytes());
}
