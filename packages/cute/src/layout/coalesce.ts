import { mulLeaf } from './arithmetic.ts';
import { mulStride, sameStride, type StrideLeaf } from './basis.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts } from './layout.ts';
import type { Leaf } from './leaf.ts';
import { filterZeros as filterZeroExtents } from './order.ts';
import { isTuple, leavesOf, tupleText, unwrap, type IntTuple, type Tuple } from './tuple.ts';

/**
 * Merges modes that follow one another. The same function on `0 <= i < size`, at most one level deep. With a `profile`
 * each of its leaves keeps a mode of its own.
 */
export function coalesce(layout: Layout, profile?: Tuple<unknown>): Layout {
  return byProfile('coalesce', layout, profile, (part) => merge(part, false));
}

/**
 * Like `coalesce`, and the same function beyond the size of the layout too: a last mode of extent 1 stays (as an extent
 * of 2, which no coordinate inside reaches). `composition` rests on it.
 */
export function coalesceX(layout: Layout, profile?: Tuple<unknown>): Layout {
  return byProfile('coalesce', layout, profile, (part) => merge(part, true));
}

function byProfile(name: string, layout: Layout, profile: unknown, change: (part: Layout) => Layout): Layout {
  if (profile === undefined || !Array.isArray(profile)) return change(layout);
  if (profile.length > layout.rank) {
    throw new LayoutError(`${name}: the profile ${tupleText(profile)} has more modes than ${String(layout)}`);
  }
  return concatLayouts(
    ...layout.modes().map((mode, i) => (i < profile.length ? byProfile(name, mode, profile[i], change) : mode)),
  );
}

function merge(layout: Layout, open: boolean): Layout {
  const extents = leavesOf(layout.shape);
  const strides = leavesOf(layout.stride);
  const last = extents.length - 1;
  if (last < 0) return new Layout(1, 0);
  const shape: Leaf[] = [open && extents[last] === 1 ? 2 : extents[last]];
  const stride: StrideLeaf[] = [strides[last]];
  // From the last mode to the first, as C++ does: with dynamic extents the direction shows in the result.
  for (let i = last - 1; i >= 0; i -= 1) {
    const extent = extents[i];
    const front = shape.length - 1;
    if (extent === 1) continue;
    if (shape.length === 1 && shape[0] === 1) {
      shape[0] = extent;
      stride[0] = strides[i]!;
    } else if (typeof shape[front] === 'number' && sameStride(mulStride(extent, strides[i]), stride[front])) {
      shape[front] = mulLeaf(extent, shape[front]);
      stride[front] = strides[i]!;
    } else {
      shape.push(extent);
      stride.push(strides[i]);
    }
  }
  if (shape.length === 1 && shape[0] === 1) return new Layout(1, 0);
  return new Layout(unwrap<Leaf>(shape.toReversed()), unwrap<StrideLeaf>(stride.toReversed()));
}

/** Merges neighbours of a shape that are both known, or both dynamic. */
export function coalesceShape(shape: IntTuple): IntTuple {
  const merged: Leaf[] = [];
  for (const extent of leavesOf(shape)) {
    const back = merged.length - 1;
    if (back >= 0 && (typeof merged[back] === 'number') === (typeof extent === 'number')) {
      merged[back] = mulLeaf(merged[back], extent);
    } else {
      merged.push(extent);
    }
  }
  return isTuple(shape) ? unwrap<Leaf>(merged) : merged[0];
}

/** Extents of stride 0 become 1, where a `profile` is given those at its zeros. */
export function filterZeros(layout: Layout, profile?: Tuple<unknown>): Layout {
  return new Layout(filterZeroExtents((profile ?? layout.stride) as IntTuple, layout.shape), layout.stride);
}

/** Without modes of stride 0 and of extent 1; `1:0` if none is left. */
export function filter(layout: Layout, profile?: Tuple<unknown>): Layout {
  return byProfile('filter', layout, profile, (part) => merge(filterZeros(part), false));
}
