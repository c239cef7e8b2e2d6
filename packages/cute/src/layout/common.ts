import { divisorOf, gcdNumber } from './arithmetic.ts';
import { isBasis } from './basis.ts';
import { andNumber, shiftRight } from './bits.ts';
import { coalesce } from './coalesce.ts';
import { compose } from './compose.ts';
import { ComposedLayout, domainOf, swizzled, type AnyLayout } from './composed.ts';
import { divideLogical } from './divide.ts';
import { LayoutError } from './error.ts';
import { commonLayout, commonVector, rightInverse } from './inverse.ts';
import { Layout, concatLayouts, linearCoord, makeLayout, size } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { compactMajor } from './order.ts';
import { productLogical } from './product.ts';
import { Swizzle, makeSwizzle } from './swizzle.ts';
import { _, flatten, leavesOf, mapLeaves, type IntTuple } from './tuple.ts';

/**
 * The largest layout `R` with `a(R(i)) = i` and `b(R(i)) = i`: contiguous elements that correspond in both layouts.
 * Through a swizzle at most `2^base` elements stay together.
 */
export function maxCommonLayout(a: AnyLayout, b: AnyLayout): Layout {
  const common = commonLayout(domainOf(a), domainOf(b));
  const most = vectorCap(a, b);
  return typeof common.size === 'number' && common.size > most ? compose(common, most) : common;
}

/** Number of contiguous elements that correspond in both layouts, at least 1. */
export function maxCommonVector(a: AnyLayout, b: AnyLayout): number {
  return Math.min(commonVector(domainOf(a), domainOf(b)), vectorCap(a, b));
}

function vectorCap(a: AnyLayout, b: AnyLayout): number {
  const left = swizzleOf(a);
  const right = swizzleOf(b);
  const one = (layout: AnyLayout, swizzle: Swizzle | undefined): number => {
    if (layout instanceof Layout) return Infinity;
    if (swizzle === undefined) return 1;
    const offset = layout.offset as Leaf;
    const cap = 2 ** swizzle.base;
    return offset === 0 ? cap : gcdNumber(cap, divisorOf(offset));
  };
  const zero = (layout: AnyLayout): boolean => layout instanceof Layout || layout.offset === 0;
  if (left !== undefined && right !== undefined && left.equals(right) && zero(a) && zero(b)) return Infinity;
  return Math.min(one(a, left), one(b, right));
}

function swizzleOf(layout: AnyLayout): Swizzle | undefined {
  return layout instanceof ComposedLayout && layout.outer instanceof Swizzle ? layout.outer : undefined;
}

/** The largest `n` for which `upcast(layout, n)` is defined, dynamic strides taken as divisible. */
export function maxAlignment(layout: AnyLayout): number {
  if (layout instanceof ComposedLayout) {
    if (!(layout.outer instanceof Swizzle)) return 1;
    const offset = layout.offset as Leaf;
    return gcdNumber(gcdNumber(2 ** layout.outer.base, divisorOf(offset)), maxAlignment(layout.inner));
  }
  const flat = coalesce(layout);
  const known = new Layout(
    mapLeaves<Leaf, Leaf>(flat.shape, (extent) => (isDynamic(extent) ? 1 : extent)),
    mapLeaves(flat.stride, (stride) => {
      if (isBasis(stride)) throw new LayoutError(`max_alignment: ${String(layout)} maps to coordinates`);
      return isDynamic(stride) ? 0 : stride;
    }),
  );
  const permuted = divideLogical(known, rightInverse(known));
  const run = permuted.mode(0).size as number;
  return leavesOf(permuted.mode(1).stride).reduce<number>((all, stride) => gcdNumber(all, stride as number), run);
}

/** A layout of `count` coordinates spread over `shape`, as far as its extents have common divisors with the count. */
export function domainDistribute(shape: IntTuple, count: number): Layout {
  let rest = count;
  const extents = leavesOf(shape).map((extent) => {
    if (isDynamic(extent)) throw new LayoutError('domain_distribute needs a known shape');
    const part = gcdNumber(extent, rest);
    rest /= part;
    return part;
  });
  return coalesce(new Layout(extents, leavesOf(compactMajor(flatten(shape)))));
}

/** The swizzle of a layout; one of no bits where there is none. */
export function swizzlePortion(layout: AnyLayout): Swizzle {
  return swizzleOf(layout) ?? new Swizzle(0, 4, 3);
}

/** The layout without its swizzle. */
export function nonswizzlePortion(layout: AnyLayout): Layout {
  return domainOf(layout);
}

/** Lengthens the layout `S o old` to one over `next` whose vectors are swizzled alike. */
export function transferSwizzle(swizzle: Swizzle, old: Layout, next: Layout): AnyLayout {
  const active = activeBits(swizzle, old);
  const activeZ = andNumber(andNumber(active, shiftRight(active, swizzle.shift) as number), swizzle.zMask);
  const activeY = andNumber(andNumber(active, shiftRight(active, -swizzle.shift) as number), swizzle.yMask);
  const carry = (bits: number): number => known(next.at(linearCoord(old, bits)));
  return swizzled(makeSwizzle(carry(activeY), carry(activeZ)), 0, next);
}

/** `layout x (S o tiler)`: the product with a swizzle that does on the result what `S` does on the tiler. */
export function productWithSwizzle(layout: Layout, tiler: ComposedLayout): AnyLayout {
  if (!(tiler.outer instanceof Swizzle) || tiler.offset !== 0) {
    throw new LayoutError(
      `logical_product: the tiler ${String(tiler)} must be a swizzle before a layout, with offset 0`,
    );
  }
  const result = productLogical(layout, tiler.inner);
  const active = activeBits(tiler.outer, tiler.inner);
  const carry = (bits: number): number => known(result.at(0, tiler.inner.at(bits)));
  const y = carry(andNumber(active, tiler.outer.yMask));
  return swizzled(makeSwizzle(y, carry(andNumber(active, tiler.outer.zMask))), 0, result);
}

/** Those bits of the swizzle that indices of the layout reach. */
function activeBits({ bits, base, shift }: Swizzle, layout: Layout): number {
  const gap = Math.abs(shift);
  const projection = new Layout(
    [2 ** base, 2 ** bits, 2 ** (gap - bits), 2 ** bits, 1],
    [0, 2 ** base, 0, 2 ** (base + gap), 0],
  );
  const only = compose(projection, layout);
  return known(only.at(known(size(only.shape)) - 1));
}

function known(leaf: Leaf): number {
  if (isDynamic(leaf))
    throw new LayoutError(`a swizzle can be carried over known strides only, not over ${String(leaf)}`);
  return leaf;
}

/** The CTAs of a cluster that a coordinate with `_` for the multicast modes addresses, one bit each. */
export function multicastMask(ctas: Layout, coord: readonly (Leaf | typeof _)[], ...modes: number[]): number {
  const open = coord.map((part, i) => (modes.includes(i) ? _ : part));
  const fixed = open.map((part) => (part === _ ? 0 : part));
  const first = known(ctas.at(...fixed));
  const free = ctas.modes().filter((_mode, i) => open[i] === _);
  const image = free.length === 0 ? makeLayout(1) : concatLayouts(...free);
  let mask = 0;
  for (let i = 0; i < known(image.size); i += 1) {
    const cta = first + known(image.at(i));
    if (cta < 0 || cta > 15) throw new LayoutError(`a multicast mask has 16 bits, and the CTA ${cta} has none of them`);
    mask |= 1 << cta;
  }
  return mask;
}
