import { absLeaf, ceilDivLeaf, divLeaf, minLeaf, mulLeaf, remLeaf, signLeaf } from './arithmetic.ts';
import { basisGet, basisValue, isBasis, mulStride, type StrideLeaf } from './basis.ts';
import { coalesceX } from './coalesce.ts';
import type { Stride } from './coord.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts, coprofile, makeLayout } from './layout.ts';
import type { Leaf } from './leaf.ts';
import { isTilerTuple, tilerText, type Tiler } from './tiler.ts';
import { _, isTuple, unwrap, wrap, type IntTuple } from './tuple.ts';

/**
 * `A o B`, the layout `c -> A(B(c))`, with the shape of `B`. A tuple of tilers composes mode by mode and drops modes of
 * `A` that it has no tiler for.
 *
 * Each extent of `A` counts as rounded up to a whole number of steps of `B`, so tiles that overhang are answered; where
 * the extents divide, `(A o B)(c) = A(B(c))` exactly. Throws a `LayoutError` where a stride of `B` neither stays inside
 * a mode of `A` nor jumps over all of it, or where an extent of `B` does not split over the modes of `A`.
 */
export function compose(a: Layout, b: Tiler): Layout {
  if (b === _) return a;
  if (isTilerTuple(b)) {
    if (b.length > a.rank) {
      throw new LayoutError(`composition: the tiler ${tilerText(b)} has more modes than ${String(a)}`);
    }
    const modes = a.modes();
    return concatLayouts(...b.map((part, i) => compose(modes[i], part)));
  }
  if (b instanceof Layout) {
    const flat = coalesceX(a, coprofile(b));
    return composeModes(flat.shape, flat.stride, b.shape, b.stride, a, b);
  }
  const flat = coalesceX(a);
  return composeModes(flat.shape, flat.stride, b, 1, a, b);
}

function composeModes(
  leftShape: IntTuple,
  leftStride: Stride,
  shape: IntTuple,
  stride: Stride,
  a: Layout,
  b: Tiler,
): Layout {
  if (isTuple(shape)) {
    const strides = wrap(stride);
    return concatLayouts(...shape.map((extent, i) => composeModes(leftShape, leftStride, extent, strides[i], a, b)));
  }
  const leaf = stride as StrideLeaf;
  if (isBasis(leaf)) {
    const part = basisGet(leaf, leftShape) as IntTuple;
    return composeModes(part, basisGet(leaf, leftStride) as Stride, shape, basisValue(leaf), a, b);
  }
  if (leaf === 0) return new Layout(shape, 0);
  if (!isTuple(leftShape)) return new Layout(shape, mulStride(leaf, leftStride as StrideLeaf));
  return composeLeaf(leftShape as readonly Leaf[], leftStride as readonly StrideLeaf[], shape, leaf, a, b);
}

function composeLeaf(
  extents: readonly Leaf[],
  strides: readonly StrideLeaf[],
  shape: Leaf,
  stride: Leaf,
  a: Layout,
  b: Tiler,
): Layout {
  const resultShape: Leaf[] = [];
  const resultStride: StrideLeaf[] = [];
  let restShape = shape;
  let restStride = stride;
  const last = extents.length - 1;
  for (let i = 0; i < last; i += 1) {
    const extent = extents[i];
    if (
      typeof extent === 'number' &&
      typeof restStride === 'number' &&
      restStride % extent !== 0 &&
      restStride >= extent
    ) {
      throw new LayoutError(
        `composition of ${String(a)} with ${tilerText(b)}: the stride ${String(stride)} does not divide over the modes: ` +
          `${restStride} is neither below the extent ${extent} nor a multiple of it`,
      );
    }
    const step = absLeaf(restStride);
    const here = ceilDivLeaf(extent, step);
    const next = mulLeaf(ceilDivLeaf(step, extent), signLeaf(restStride));
    if (here !== 1 && restShape !== 1) {
      const kept = minLeaf(here, restShape);
      if (typeof kept === 'number' && typeof restShape === 'number' && remLeaf(restShape, kept) !== 0) {
        throw new LayoutError(
          `composition of ${String(a)} with ${tilerText(b)}: the extent ${String(shape)} does not split over the modes: ` +
            `${kept} coordinates fit the mode of extent ${String(extent)}, and ${restShape} is not a multiple of ${kept}`,
        );
      }
      resultShape.push(kept);
      resultStride.push(mulStride(restStride, strides[i]));
      restShape = divLeaf(restShape, kept);
    }
    restStride = next;
  }
  if (resultShape.length === 0 || restShape !== 1) {
    resultShape.push(restShape);
    resultStride.push(mulStride(restStride, strides[last]));
  }
  return new Layout(unwrap<Leaf>(resultShape), unwrap<StrideLeaf>(resultStride));
}

/** The layout read through another shape: `L o makeLayout(shape)`. */
export function withShape(layout: Layout, shape: IntTuple): Layout {
  return compose(layout, makeLayout(shape));
}
