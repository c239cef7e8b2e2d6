import { mulLeaf } from './arithmetic.ts';
import { LayoutError } from './error.ts';
import type { Leaf } from './leaf.ts';
import { isTuple, leavesOf, mapLeaves, productLike, tupleText, unflatten, wrap, type IntTuple } from './tuple.ts';

/** Which mode is fastest: the first (column major) or the last (row major). */
export type Major = 'left' | 'right';

/** Compact strides of a shape, from `current` on; extents of 1 have the stride 0. */
export function compactMajor(shape: IntTuple, current: IntTuple = 1, major: Major = 'left'): IntTuple {
  if (isTuple(current)) {
    if (!isTuple(shape) || shape.length !== current.length) {
      throw new LayoutError(`the strides ${tupleText(current)} to start from do not fit the shape ${tupleText(shape)}`);
    }
    return shape.map((mode, i) => compactMajor(mode, current[i], major));
  }
  let next: Leaf = current;
  const go = (part: IntTuple): IntTuple => {
    if (isTuple(part)) {
      if (major === 'left') return part.map((mode) => go(mode));
      return part
        .toReversed()
        .map((mode) => go(mode))
        .toReversed();
    }
    if (part === 1) return 0;
    const stride = next;
    next = mulLeaf(next, part);
    return stride;
  };
  return go(shape);
}

/**
 * Compact strides whose order is that of `order`: the mode with the smallest is fastest. Dynamic values of `order` come
 * after all others, from left to right.
 */
export function compactOrder(shape: IntTuple, order: IntTuple | Major): IntTuple {
  if (order === 'left' || order === 'right') return compactMajor(shape, 1, order);
  const extents = leavesOf(productLike(shape, order));
  const given = leavesOf(order);
  const largest = given.reduce<number>((most, value) => (typeof value === 'number' ? Math.max(most, value) : most), 0);
  const ranks = given.map((value, i) => (typeof value === 'number' ? value : largest + 1 + i));
  const go = (part: IntTuple, ordering: IntTuple): IntTuple => {
    if (isTuple(ordering)) return wrap(part).map((mode, i) => go(mode, ordering[i]));
    const start = extents.reduce<Leaf>(
      (all, extent, i) => (ranks[i] < (ordering as number) ? mulLeaf(all, extent) : all),
      1,
    );
    return compactMajor(part, start);
  };
  return go(shape, unflatten<Leaf>(ranks, order));
}

/** 1 where the stride is a known 0, the extent otherwise; in the profile of `strides`. */
export function filterZeros(strides: IntTuple | readonly unknown[], shape: IntTuple): IntTuple {
  if (Array.isArray(strides)) return strides.map((stride, i) => filterZeros(stride as IntTuple, wrap(shape)[i]));
  return strides === 0 ? mapLeaves<Leaf, Leaf>(shape, () => 1) : shape;
}
