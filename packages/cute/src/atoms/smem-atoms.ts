import type { SwizzleMode } from './descriptors.ts';
import type { Major } from './smem-descriptor.ts';
import type { LayoutNumbers } from './thread-values.ts';

/** A piece of shared memory that TMA, wgmma and tcgen05 agree about: the swizzle of offsets in elements, over a layout. */
export interface SmemAtom {
  /** `Sw<bits, base, shift>` on element offsets; no bits where nothing is exchanged. */
  readonly swizzle: { readonly bits: number; readonly base: number; readonly shift: number };
  /** (MN, K) -> element. */
  readonly layout: LayoutNumbers;
  readonly mode: SwizzleMode;
}

const SWIZZLE_BITS: Readonly<Record<SwizzleMode, number>> = { none: 0, '32': 1, '64': 2, '128': 3 };

/**
 * The layout atom of an operand in shared memory, (MN, K): eight rows of 16, 32, 64 or 128 bytes, contiguous in K or in
 * MN, whose 16-byte pieces are exchanged by the row. Tile it to the operand's shape. Source: the reference's section
 * 1.4 and PTX ISA 9.0, "Swizzling modes".
 *
 * @param elementBits bits of an element, a power of two from 4 to 32
 */
export function smemAtom(major: Major, mode: SwizzleMode, elementBits: number): SmemAtom {
  if (![4, 8, 16, 32].includes(elementBits)) {
    throw new RangeError(`operands in shared memory have elements of 4, 8, 16 or 32 bits, not ${elementBits}`);
  }
  const pitch = (mode === 'none' ? 128 : 8 * Number(mode)) / elementBits;
  // 16 bytes stay together: 2^4 bytes, or 7 bits of an address in bits.
  const base = 7 - Math.log2(elementBits);
  const layout: LayoutNumbers =
    major === 'k' ? { shape: [8, pitch], stride: [pitch, 1] } : { shape: [pitch, 8], stride: [1, pitch] };
  return { swizzle: { bits: SWIZZLE_BITS[mode], base, shift: 3 }, layout, mode };
}

/**
 * The widest swizzle whose rows divide an operand of that many contiguous elements: fewest bank conflicts, fewest TMA
 * boxes.
 */
export function widestSwizzle(contiguous: number, elementBits: number): SwizzleMode {
  const bytes = (contiguous * elementBits) / 8;
  if (bytes % 16 !== 0) throw new RangeError(`a row of ${bytes} bytes is not made of 16-byte pieces`);
  if (bytes % 128 === 0) return '128';
  if (bytes % 64 === 0) return '64';
  return bytes % 32 === 0 ? '32' : 'none';
}
