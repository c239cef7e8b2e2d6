import { ceilDivLeaf, divLeaf, gcdNumber, mulLeaf, signLeaf } from './arithmetic.ts';
import { isBasis, mulStride, type StrideLeaf } from './basis.ts';
import { swizzled, type AnyLayout } from './composed.ts';
import type { Stride } from './coord.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { Swizzle, downcastSwizzle, upcastSwizzle } from './swizzle.ts';
import { isTuple, leavesOf, mapLeaves, wrap, type IntTuple } from './tuple.ts';

/**
 * The layout counted in elements `n` times as large: a mode of stride 1 shrinks by `n`, other strides are divided by it.
 * Dynamic strides must have a divisor that `n` divides, or none at all (then they are taken to be divisible, as in
 * CuTe). Throws where a known stride neither divides `n` nor is divided by it.
 */
export function upcast(layout: AnyLayout, n: number): AnyLayout {
  checkFactor('upcast', n);
  if (layout instanceof Layout) return upcastModes(layout.shape, layout.stride, n);
  const outer =
    layout.outer instanceof Swizzle
      ? upcastSwizzle(layout.outer, n)
      : upcastModes(layout.outer.shape, layout.outer.stride, n);
  const offset = mapLeaves<Leaf, Leaf>(layout.offset, (leaf) => {
    if (typeof leaf === 'number' && leaf % n !== 0) {
      throw new LayoutError(`upcast by ${n}: the offset ${leaf} of ${String(layout)} is not a multiple of it`);
    }
    return divLeaf(leaf, n);
  });
  return swizzled(outer, offset, upcastModes(layout.inner.shape, layout.inner.stride, n));
}

function upcastModes(shape: IntTuple, stride: Stride, n: number): Layout {
  if (isTuple(shape)) {
    const strides = wrap(stride);
    return concatLayouts(...shape.map((mode, i) => upcastModes(mode, strides[i], n)));
  }
  const leaf = stride as StrideLeaf;
  if (isBasis(leaf))
    throw new LayoutError(`upcast by ${n}: the stride ${String(leaf)} counts coordinates, not elements`);
  if (leaf === 0) return new Layout(shape, 0);
  if (isDynamic(leaf)) return new Layout(shape, divLeaf(leaf, n));
  const step = Math.abs(leaf);
  if (step % n !== 0 && n % step !== 0) {
    throw new LayoutError(`upcast by ${n}: the stride ${leaf} neither divides it nor is divided by it`);
  }
  return new Layout(ceilDivLeaf(shape, ceilDivLeaf(n, step)), mulLeaf(signLeaf(leaf), ceilDivLeaf(step, n)));
}

/** The layout counted in elements `n` times as small: a mode of stride 1 grows by `n`, other strides are multiplied. */
export function downcast(layout: AnyLayout, n: number): AnyLayout {
  checkFactor('downcast', n);
  if (layout instanceof Layout) return downcastModes('downcast', layout, n);
  const outer =
    layout.outer instanceof Swizzle ? downcastSwizzle(layout.outer, n) : downcastModes('downcast', layout.outer, n);
  const offset = mapLeaves<Leaf, Leaf>(layout.offset, (leaf) => mulLeaf(leaf, n));
  return swizzled(outer, offset, downcastModes('downcast', layout.inner, n));
}

function downcastModes(name: string, layout: Layout, n: number): Layout {
  if (n !== 1 && !leavesOf(layout.stride).some((stride) => stride === 1)) {
    throw new LayoutError(
      `${name} by ${n}: ${String(layout)} has no mode of stride 1, so its elements are not adjacent`,
    );
  }
  const go = (shape: IntTuple, stride: Stride): Layout => {
    if (isTuple(shape)) {
      const strides = wrap(stride);
      return concatLayouts(...shape.map((mode, i) => go(mode, strides[i])));
    }
    const leaf = stride as StrideLeaf;
    return leaf === 1 || leaf === -1 ? new Layout(mulLeaf(shape, n), leaf) : new Layout(shape, mulStride(n, leaf));
  };
  return go(layout.shape, layout.stride);
}

/** The layout of the same memory in elements of `newBits` instead of `oldBits`. */
export function recast(layout: AnyLayout, oldBits: number, newBits: number): AnyLayout {
  checkFactor('recast', oldBits);
  checkFactor('recast', newBits);
  const common = gcdNumber(oldBits, newBits);
  const larger = newBits / common;
  const smaller = oldBits / common;
  const up = larger === 1 ? layout : upcast(layout, larger);
  return smaller === 1 ? up : downcast(up, smaller);
}

/** A swizzle for elements of other width. */
export function recastSwizzle(swizzle: Swizzle, oldBits: number, newBits: number): Swizzle {
  const common = gcdNumber(oldBits, newBits);
  return downcastSwizzle(upcastSwizzle(swizzle, newBits / common), oldBits / common);
}

function checkFactor(name: string, n: number): void {
  if (!Number.isSafeInteger(n) || n < 1) throw new LayoutError(`${name} takes a whole number of at least 1, not ${n}`);
}
