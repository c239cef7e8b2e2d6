import { E } from './basis.ts';
import { domainOf, type AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout, makeLayout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { compactMajor, compactOrder, filterZeros, type Major } from './order.ts';
import { productTiled } from './product.ts';
import { isTuple, leavesOf, take, wrap, type IntTuple, type Tuple } from './tuple.ts';
import type { ScaledBasis } from './basis.ts';

/** A compact layout whose strides are ordered like `order`: the mode with the smallest is fastest. */
export function makeOrderedLayout(shape: IntTuple, order: IntTuple | Major): Layout {
  return new Layout(shape, compactOrder(shape, order));
}

/** A compact layout of the same shape whose strides have the order of those of `layout`; strides of 0 stay. */
export function makeLayoutLike(layout: AnyLayout): Layout {
  const { shape, stride } = plainStrides('make_layout_like', domainOf(layout));
  return new Layout(shape, compactOrder(filterZeros(stride, shape), stride));
}

/** As `makeLayoutLike`, but mode 0 (the values of an atom) is always compact and fastest. */
export function makeFragmentLike(layout: AnyLayout): Layout {
  const inner = domainOf(layout);
  if (inner.rank < 2 || leavesOf(inner.shape).some((extent) => isDynamic(extent))) return makeLayout(inner.shape);
  const { shape, stride } = plainStrides('make_fragment_like', inner);
  const first = wrap(shape)[0];
  const firstStride = compactMajor(filterZeros(wrap(stride)[0], first));
  const rest = take(shape, 1, inner.rank);
  return productTiled(new Layout(first, firstStride), makeOrderedLayout(rest, take(stride, 1, inner.rank)));
}

function plainStrides(name: string, layout: Layout): { shape: IntTuple; stride: IntTuple } {
  if (leavesOf(layout.stride).some((stride) => typeof stride !== 'number' && !isDynamic(stride))) {
    throw new LayoutError(`${name}: ${String(layout)} maps to coordinates`);
  }
  return { shape: layout.shape, stride: layout.stride as IntTuple };
}

/** The layout that maps each coordinate of `shape` to itself: a coordinate tensor. */
export function makeIdentityLayout(shape: IntTuple): Layout {
  const go = (part: IntTuple, path: readonly number[]): Tuple<Leaf | ScaledBasis> => {
    if (isTuple(part)) return part.map((mode, i) => go(mode, [...path, i]));
    return path.length === 0 ? 1 : E(...path);
  };
  return new Layout(shape, go(shape, []));
}
