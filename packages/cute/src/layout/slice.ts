import { addLeaf, mulLeaf, subLeaf } from './arithmetic.ts';
import { addCoord } from './basis.ts';
import { andLeaf, andNumber, orNumber, shiftRight } from './bits.ts';
import { compose } from './compose.ts';
import { bitsOf } from './through.ts';
import { ComposedLayout, domainOf, swizzled, type AnyLayout } from './composed.ts';
import { diceTuple } from './coord.ts';
import { LayoutError } from './error.ts';
import { Layout, diceLayout, size as sizePlain, sliceLayout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { Swizzle } from './swizzle.ts';
import { _, isTuple, type Coord, type IntTuple } from './tuple.ts';

/** Number of coordinates of a layout, of one of its modes, or of a shape. */
export function size(of: AnyLayout | IntTuple, ...path: number[]): Leaf {
  return sizePlain(of instanceof ComposedLayout ? of.inner : of, ...path);
}

/** The layout of the modes that `coord` leaves open; add the offset of `sliceAndOffset` for its place. */
export function slice(coord: Coord, layout: Layout): Layout;
export function slice(coord: Coord, layout: AnyLayout): AnyLayout;
export function slice(coord: Coord, layout: AnyLayout): AnyLayout {
  return sliceAndOffset(coord, layout)[0];
}

/** The layout of the modes that `coord` fixes. */
export function dice(coord: Coord, layout: AnyLayout): Layout {
  return diceLayout(coord, domainOf(layout));
}

/**
 * The layout of the open modes and the index where it begins: `layout(c) = sliced(open part of c) + offset`.
 *
 * A swizzled layout decays to a plain one where its open modes touch no two bits that are swizzled together; the
 * strides then depend on the offset, bit by bit. Wherever that is not proved it stays composed, which is always exact.
 */
export function sliceAndOffset(coord: Coord, layout: AnyLayout): [AnyLayout, IntTuple] {
  if (layout instanceof Layout) return [sliceLayout(coord, layout), fixedIndex(coord, layout)];
  const open = sliceLayout(coord, layout.inner);
  if (allOpen(coord)) return [swizzled(layout.outer, layout.offset, open), 0];
  const fixed = fixedIndex(coord, layout.inner);
  const { outer, offset } = layout;
  if (outer instanceof Swizzle && !isTuple(offset) && !isTuple(fixed)) {
    const split = splitSwizzle(outer, offset, fixed, open, layout.inner);
    if (split !== undefined) return split;
  }
  return [new ComposedLayout(outer, addCoord(offset, fixed), open), 0];
}

/** The layout seen from `coord` on, and the index to add to the start of its memory. */
export function domainOffset(coord: Coord, layout: AnyLayout): [AnyLayout, IntTuple] {
  if (layout instanceof Layout) return [layout, layout.coordAt(coord)];
  const offset = addCoord(layout.offset, layout.inner.coordAt(coord));
  return [new ComposedLayout(layout.outer, offset, layout.inner), 0];
}

function allOpen(coord: Coord): boolean {
  return isTuple(coord) ? coord.every((part) => allOpen(part)) : coord === _;
}

/** The index that the fixed parts of `coord` contribute. */
function fixedIndex(coord: Coord, layout: Layout): IntTuple {
  const fixed = diceTuple<Leaf | typeof _>(coord, coord);
  if (isTuple(fixed) && fixed.length === 0) return 0;
  return diceLayout(coord, layout).coordAt(fixed);
}

/**
 * Needs that no two modes of the layout share a bit and the offset shares none with them: then a sum of indices is the
 * union of their bits, and the bits of the swizzle can be looked at apart from the others.
 */
function splitSwizzle(
  swizzle: Swizzle,
  offset: Leaf,
  fixed: Leaf,
  open: Layout,
  whole: Layout,
): [AnyLayout, IntTuple] | undefined {
  const wholeBits = bitsOf(whole);
  const openBits = bitsOf(open);
  if (wholeBits === undefined || openBits === undefined) return undefined;
  if (isDynamic(offset) || offset < 0 || andNumber(offset, wholeBits) !== 0) return undefined;
  if (typeof fixed === 'number' && (fixed < 0 || andNumber(fixed, openBits) !== 0)) return undefined;
  const swizzleBits = orNumber(swizzle.yMask, swizzle.zMask);
  const total = addLeaf(offset, fixed);
  const touched = andLeaf(total, swizzleBits);
  const untouched = subLeaf(total, touched);
  const y = andNumber(openBits, swizzle.yMask);
  const z = andNumber(openBits, swizzle.zMask);
  if (andNumber(shiftRight(y, swizzle.shift) as number, z) !== 0) {
    return [swizzled(swizzle, touched, open), untouched];
  }
  return [compose(decayedSwizzle(swizzle, touched), open), addLeaf(swizzle.apply(touched), untouched)];
}

/** The swizzle around an offset as a plain layout over bits; right where only Y or only Z bits are walked together. */
function decayedSwizzle(swizzle: Swizzle, offset: Leaf): Layout {
  const { bits, base, shift } = swizzle;
  const gap = Math.abs(shift);
  if (bits === 0) throw new LayoutError('a swizzle of no bits is the identity');
  const yLow = 2 ** (base + Math.max(0, shift));
  const zLow = 2 ** (base - Math.min(0, shift));
  // A Z bit goes up where its Y bit is 0 and down where it is 1.
  const zStrides = eachBit(bits, (i) => {
    const set = shiftRight(andLeaf(offset, yLow * 2 ** i), shift);
    return subLeaf(zLow * 2 ** i, mulLeaf(2, set));
  });
  // A Y bit takes its Z bit along: up where that is 0, down where it is 1.
  const yStrides = eachBit(bits, (i) => subLeaf((yLow + zLow) * 2 ** i, mulLeaf(2, andLeaf(offset, zLow * 2 ** i))));
  const [low, high] = zLow < yLow ? [zStrides, yStrides] : [yStrides, zStrides];
  const two = new Array<number>(bits).fill(2);
  return new Layout(
    [2 ** base, two, 2 ** (gap - bits), two, 1],
    [1, low, 2 ** (base + bits), high, 2 ** (base + bits + gap)],
  );
}

function eachBit(bits: number, stride: (bit: number) => Leaf): Leaf[] {
  return Array.from({ length: bits }, (_bit, i) => stride(i));
}
