import type { TensorMapDescription } from '@rose/cute';

const BYTES: Readonly<Record<string, number>> = { e4m3: 1, e5m2: 1, u8: 1, bf16: 2, f16: 2, u16: 2 };

/**
 * A tensor map over all of a range: as many elements in the outermost dimension as there is room for. What a kernel reads
 * beyond the rows of a step is then memory that is its own to read.
 */
export function mapOver(map: TensorMapDescription, bytes: number): TensorMapDescription {
  const { shape, strides } = map;
  const last = shape.length - 1;
  const element = BYTES[map.element] ?? 4;
  const pitch = strides?.[last - 1] ?? element * shape.slice(0, last).reduce((product, size) => product * size, 1);
  return { ...map, shape: [...shape.slice(0, last), Math.max(1, Math.floor(bytes / pitch))] };
}
