import { KernelError } from '../ir/error.ts';
import type { TensorMapDescription } from '../types/tensor-map.ts';
import { TYPES } from '../types/dtype.ts';
import type { MemoryRegion } from './memory.ts';

/** A tensor map as the simulator keeps it: all defaults filled in, and where the tensor lies. */
export interface TensorMapState {
  readonly description: TensorMapDescription;
  readonly elementBytes: number;
  readonly strides: readonly number[];
  readonly steps: readonly number[];
  readonly region: MemoryRegion;
  /** Byte of element 0 in the region. */
  readonly start: number;
  /** Bytes of a whole box in shared memory. */
  readonly boxBytes: number;
}

/**
 * Fills in what a description leaves out.
 *
 * @throws KernelError that says which rule of `cuTensorMapEncodeTiled` it breaks.
 */
export function tensorMapState(
  name: string,
  map: TensorMapDescription,
  region: MemoryRegion,
  start: number,
): TensorMapState {
  const fail = (problem: string): KernelError => new KernelError(`tensor map ${name} is not possible: ${problem}`);
  const { shape, box, element, im2col } = map;
  const rank = shape.length;
  const elementBytes = TYPES[element].bits / 8;
  const steps = map.elementStrides ?? shape.map(() => 1);
  const strides = [elementBytes];
  for (let i = 1; i < rank; i++) strides.push(map.strides?.[i - 1] ?? strides[i - 1] * shape[i - 1]);
  if (rank < 1 || rank > 5) throw fail(`a tensor has 1 to 5 dimensions, not ${rank}`);
  if (box.length !== (im2col ? 2 : rank) || steps.length !== rank)
    throw fail(`box and element strides need ${rank} dimensions`);
  if (map.strides && map.strides.length !== rank - 1) throw fail(`${rank} dimensions need ${rank - 1} strides`);
  if (im2col) {
    if (rank < 3) throw fail(`im2col is for 3 to 5 dimensions, not ${rank}`);
    for (const corner of [im2col.lower, im2col.upper]) {
      if (corner.length !== rank - 2) throw fail(`a corner of im2col has ${rank - 2} numbers, not ${corner.length}`);
    }
  }
  for (const [i, size] of box.entries()) {
    const most = im2col && i === 1 ? 1024 : 256;
    if (!Number.isInteger(size) || size < 1 || size > most)
      throw fail(`box dimension ${i} is ${size}, not 1 to ${most}`);
  }
  for (const [i, step] of steps.entries()) {
    if (!Number.isInteger(step) || step < 1 || step > 8) throw fail(`element stride ${i} is ${step}, not 1 to 8`);
  }
  for (const [i, stride] of strides.entries()) {
    if (i > 0 && stride % 16 !== 0) throw fail(`the stride of dimension ${i} is ${stride} bytes, no multiple of 16`);
  }
  const counts = im2col ? box : box.map((size, i) => Math.ceil(size / steps[i]));
  const row = counts[0] * elementBytes;
  if (row % 16 !== 0) throw fail(`a row of the box has ${row} bytes, no multiple of 16`);
  const swizzle = map.swizzle ?? 'none';
  if (swizzle !== 'none' && row > Number(swizzle))
    throw fail(`a row of the box has ${row} bytes and the swizzle spans ${swizzle}`);
  if (start % 16 !== 0) throw fail(`element 0 lies at byte ${start}, no multiple of 16`);
  const last = strides.reduce((sum, stride, i) => sum + stride * (shape[i] - 1), elementBytes);
  if (start + last > region.size)
    throw fail(`the tensor ends at byte ${start + last} and its memory has ${region.size}`);
  return {
    description: map,
    elementBytes,
    strides,
    steps,
    region,
    start,
    boxBytes: counts.reduce((a, b) => a * b, elementBytes),
  };
}
