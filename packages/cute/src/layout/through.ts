import { isBasis } from './basis.ts';
import { andNumber, isPowerOfTwo, orNumber, shiftRight } from './bits.ts';
import { swizzled, type AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import type { Layout } from './layout.ts';
import { isDynamic } from './leaf.ts';
import { Swizzle, makeSwizzle } from './swizzle.ts';
import { leavesOf } from './tuple.ts';

/** Larger layouts are not tried index by index. */
const MOST_TRIED = 65_536;

/** The bits of all indices of a layout whose modes share none; undefined where that is not so, or not known. */
export function bitsOf(layout: Layout): number | undefined {
  const extents = leavesOf(layout.shape);
  let bits = 0;
  for (const [i, stride] of leavesOf(layout.stride).entries()) {
    const extent = extents[i];
    if (extent === 1 || stride === 0) continue;
    if (isBasis(stride) || isDynamic(stride) || isDynamic(extent)) return undefined;
    if (!isPowerOfTwo(extent) || !isPowerOfTwo(stride) || extent * stride > 2 ** 31) return undefined;
    const mode = (extent - 1) * stride;
    if (andNumber(bits, mode) !== 0) return undefined;
    bits = orNumber(bits, mode);
  }
  return bits;
}

/**
 * `L o S` as `S' o L`, where the layout carries the bits of the swizzle over. Throws a `LayoutError` where there is no
 * such swizzle, or where it cannot be shown to be the same function.
 */
export function swizzleThrough(layout: Layout, swizzle: Swizzle): AnyLayout {
  if (swizzle.bits === 0) return layout;
  const y = layout.at(swizzle.yMask);
  const z = layout.at(swizzle.zMask);
  if (typeof y !== 'number' || typeof z !== 'number') {
    throw new LayoutError(`composition: ${String(layout)} must have known strides to let ${String(swizzle)} through`);
  }
  const outer = swizzleOfBits(y, z);
  if (outer === undefined || !sameThrough(layout, swizzle, outer)) {
    throw new LayoutError(`composition: ${String(layout)} o ${String(swizzle)} is no swizzle before a layout`);
  }
  return swizzled(outer, 0, layout);
}

function swizzleOfBits(y: number, z: number): Swizzle | undefined {
  try {
    return makeSwizzle(y, z);
  } catch (error) {
    if (error instanceof LayoutError) return undefined;
    throw error;
  }
}

function sameThrough(layout: Layout, inner: Swizzle, outer: Swizzle): boolean {
  if (bitsOf(layout) !== undefined) {
    for (let bit = 1; bit <= inner.yMask; bit *= 2) {
      if (andNumber(bit, inner.yMask) === 0) continue;
      const y = layout.at(bit) as number;
      const z = layout.at(shiftRight(bit, inner.shift)) as number;
      if (shiftRight(y, outer.shift) !== z || andNumber(y, outer.yMask) !== y) return false;
    }
    return true;
  }
  const { size } = layout;
  if (typeof size !== 'number' || size > MOST_TRIED) return false;
  for (let i = 0; i < size; i += 1) {
    if (layout.at(inner.apply(i)) !== outer.apply(layout.at(i))) return false;
  }
  return true;
}
