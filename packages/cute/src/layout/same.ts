import { sameStride } from './basis.ts';
import { coalesce } from './coalesce.ts';
import { Layout } from './layout.ts';
import { leavesOf, tupleText, mapLeaves } from './tuple.ts';

/** Same modes, extents and strides. Strides of extents of 1 do not count: no coordinate ever uses them. */
export function sameLayout(a: Layout, b: Layout): boolean {
  const profile = (layout: Layout): string => tupleText(mapLeaves<unknown, number>(layout.shape, () => 0));
  return profile(a) === profile(b) && sameLeaves(a, b);
}

/** The same index for every coordinate, whatever the modes. */
export function sameFunction(a: Layout, b: Layout): boolean {
  return sameLeaves(coalesce(a), coalesce(b));
}

function sameLeaves(a: Layout, b: Layout): boolean {
  const extents = leavesOf(a.shape);
  const others = leavesOf(b.shape);
  const strides = leavesOf(a.stride);
  const otherStrides = leavesOf(b.stride);
  return (
    extents.length === others.length &&
    extents.every((extent, i) => extent === others[i] && (extent === 1 || sameStride(strides[i], otherStrides[i])))
  );
}
