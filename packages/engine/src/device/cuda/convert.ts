import type { TensorDtype } from '../../checkpoint/checkpoint.ts';

/** The type that a model's weights and activations have on the GPU. */
export type ComputeType = 'bf16' | 'f16' | 'f32';

export const TYPE_BYTES: Readonly<Record<ComputeType, number>> = { bf16: 2, f16: 2, f32: 4 };

/** How elements lie in the GPU's memory or in a file: those of e4m3 have scales beside them. */
export type ElementType = ComputeType | 'e4m3';

export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = { ...TYPE_BYTES, e4m3: 1 };

const DTYPE: Readonly<Record<ComputeType, TensorDtype>> = { bf16: 'BF16', f16: 'F16', f32: 'F32' };
const TYPE: Readonly<Record<TensorDtype, ComputeType>> = { BF16: 'bf16', F16: 'f16', F32: 'f32' };

/** A checkpoint's dtype as kernels call it. */
export function typeOf(dtype: TensorDtype): ComputeType {
  return TYPE[dtype];
}

/** Elements in the compute type, rounded to nearest even where it has fewer bits, as the `cast` kernel rounds them. */
export function convert(source: Uint8Array, from: TensorDtype, to: ComputeType): Uint8Array {
  if (from === DTYPE[to]) return source;
  const count = source.length / TYPE_BYTES[TYPE[from]];
  const values = new Float32Array(count);
  if (from === 'F32') values.set(new Float32Array(source.buffer, source.byteOffset, count));
  else if (from === 'F16') values.set(new Float16Array(source.buffer, source.byteOffset, count));
  else {
    const words = new Uint16Array(source.buffer, source.byteOffset, count);
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < count; i++) bits[i] = words[i] << 16;
  }
  if (to === 'f32') return new Uint8Array(values.buffer);
  if (to === 'f16') return new Uint8Array(new Float16Array(values).buffer);
  const bits = new Uint32Array(values.buffer);
  const words = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    const word = bits[i];
    words[i] = (word & 0x7fffffff) > 0x7f800000 ? 0x7fff : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(words.buffer);
}
