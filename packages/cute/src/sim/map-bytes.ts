import type { TensorMapDescription, TensorMapElement } from '../types/tensor-map.ts';

/**
 * Tensor maps as 128 bytes of memory. The hardware's own form is not public; this is one of the simulator, so that kernels
 * can copy maps and change them with `tensormap_replace`, which is all that they may do with the bytes.
 */

export const MAP_BYTES = 128;
const MAGIC = 0x70616d54;
const MOST_DIMENSIONS = 5;

/** Codes of `tensormap.replace`'s elemtype (PTX ISA 9.0, "tensormap.replace"); 8-bit floats travel as bytes. */
const ELEMENT_CODES: Readonly<Record<number, TensorMapElement>> = {
  ...{
    0: 'u8',
    1: 'u16',
    2: 'u32',
    3: 'i32',
    4: 'u64',
    5: 'i64',
    6: 'f16',
    7: 'f32',
    9: 'f64',
    10: 'bf16',
    11: 'tf32',
  },
  // Not the hardware's, which knows no 8-bit floats.
  ...{ 100: 'e4m3', 101: 'e5m2' },
};
const SWIZZLES = ['none', '32', '64', '128'] as const;

const AT = {
  element: 4,
  swizzle: 5,
  fill: 6,
  rank: 7,
  address: 8,
  shape: 16,
  box: 36,
  steps: 46,
  strides: 56,
} as const;
const IM2COL = { present: 88, lower: 90, upper: 96 } as const;

/** A map's bytes and where its tensor lies. */
export interface DecodedMap {
  readonly map: TensorMapDescription;
  readonly address: number;
}

/**
 * @param strides bytes of dimension 1, 2, ...
 */
export function encodeMap(map: TensorMapDescription, address: number, strides: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(MAP_BYTES));
  view.setUint32(0, MAGIC, true);
  const code = Object.entries(ELEMENT_CODES).find(([, element]) => element === map.element)![0];
  view.setUint8(AT.element, Number(code));
  view.setUint8(AT.swizzle, SWIZZLES.indexOf(map.swizzle ?? 'none'));
  view.setUint8(AT.fill, map.outside === 'nan' ? 1 : 0);
  view.setUint8(AT.rank, map.shape.length);
  view.setBigUint64(AT.address, BigInt(address), true);
  for (const [i, size] of map.shape.entries()) view.setUint32(AT.shape + 4 * i, size, true);
  for (const [i, size] of map.box.entries()) view.setUint16(AT.box + 2 * i, size, true);
  for (let i = 0; i < MOST_DIMENSIONS; i++) view.setUint8(AT.steps + i, map.elementStrides?.[i] ?? 1);
  for (const [i, stride] of strides.entries()) view.setBigUint64(AT.strides + 8 * i, BigInt(stride), true);
  if (map.im2col) {
    view.setUint8(IM2COL.present, 1);
    for (const [i, x] of map.im2col.lower.entries()) view.setInt16(IM2COL.lower + 2 * i, x, true);
    for (const [i, x] of map.im2col.upper.entries()) view.setInt16(IM2COL.upper + 2 * i, x, true);
  }
  return new Uint8Array(view.buffer);
}

/** What the bytes say; undefined where they are no map. */
export function decodeMap(bytes: Uint8Array): DecodedMap | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, MAP_BYTES);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const element = ELEMENT_CODES[view.getUint8(AT.element)];
  const swizzle = SWIZZLES[view.getUint8(AT.swizzle)];
  if (!element || !swizzle) return undefined;
  const rank = view.getUint8(AT.rank);
  const list = <T>(count: number, get: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => get(i));
  const has = view.getUint8(IM2COL.present) === 1;
  const corner = (at: number): number[] => list(Math.max(0, rank - 2), (i) => view.getInt16(at + 2 * i, true));
  const map = {
    element,
    shape: list(rank, (i) => view.getUint32(AT.shape + 4 * i, true)),
    strides: list(Math.max(0, rank - 1), (i) => Number(view.getBigUint64(AT.strides + 8 * i, true))),
    box: list(has ? 2 : rank, (i) => view.getUint16(AT.box + 2 * i, true)),
    elementStrides: list(rank, (i) => view.getUint8(AT.steps + i)),
    swizzle,
    outside: view.getUint8(AT.fill) === 1 ? ('nan' as const) : ('zero' as const),
    ...(has ? { im2col: { lower: corner(IM2COL.lower), upper: corner(IM2COL.upper) } } : {}),
  };
  return { map, address: Number(view.getBigUint64(AT.address, true)) };
}

/** Where a field of `tensormap.replace` lies, and its bytes. `rank` counts from 0, strides from dimension 1 on. */
export function fieldOf(name: string, index: number): { at: number; bytes: 1 | 2 | 4 | 8; add: number } | undefined {
  const fields: Record<string, { at: number; bytes: 1 | 2 | 4 | 8; add: number; most: number }> = {
    global_address: { at: AT.address, bytes: 8, add: 0, most: 1 },
    rank: { at: AT.rank, bytes: 1, add: 1, most: 1 },
    box_dim: { at: AT.box + 2 * index, bytes: 2, add: 0, most: MOST_DIMENSIONS },
    global_dim: { at: AT.shape + 4 * index, bytes: 4, add: 0, most: MOST_DIMENSIONS },
    global_stride: { at: AT.strides + 8 * index, bytes: 8, add: 0, most: MOST_DIMENSIONS - 1 },
    element_stride: { at: AT.steps + index, bytes: 1, add: 0, most: MOST_DIMENSIONS },
    elemtype: { at: AT.element, bytes: 1, add: 0, most: 1 },
    swizzle_mode: { at: AT.swizzle, bytes: 1, add: 0, most: 1 },
    fill_mode: { at: AT.fill, bytes: 1, add: 0, most: 1 },
  };
  const field = fields[name];
  return field && index >= 0 && index < field.most ? field : undefined;
}
