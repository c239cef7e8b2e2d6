import { coalesce as coalescePlain, filter as filterPlain } from './coalesce.ts';
import { ComposedLayout, domainOf, onDomain, requireZeroOffset, swizzled, type AnyLayout } from './composed.ts';
import { complement as complementPlain } from './complement.ts';
import { compose } from './compose.ts';
import { divideFlat, divideLogical, divideTiled, divideZipped } from './divide.ts';
import { LayoutError } from './error.ts';
import { leftInverse as leftInversePlain, rightInverse as rightInversePlain } from './inverse.ts';
import { Layout, appendLayout, cosize as cosizePlain, flattenLayout, mapTuples } from './layout.ts';
import type { Leaf } from './leaf.ts';
import type { Major } from './order.ts';
import {
  fillMmaShape,
  fillShape,
  productBlocked,
  productFlat,
  productLogical,
  productRaked,
  productTiled,
  productZipped,
} from './product.ts';
import { Swizzle } from './swizzle.ts';
import { swizzleThrough } from './through.ts';
import {
  groupModes as groupTuple,
  select as selectTuple,
  take as takeTuple,
  type IntTuple,
  type Tuple,
} from './tuple.ts';
import type { Tiler } from './tiler.ts';

/*
 * The algebra as it is called from outside. Operations on the domain of a composed layout go to its inner layout; what
 * each does is said where its plain form stands.
 */

/** What keeps the kind of its layout: plain stays plain. */
type Same<L extends AnyLayout> = L extends Layout ? Layout : AnyLayout;

function keep<L extends AnyLayout>(layout: L, change: (inner: Layout) => Layout): Same<L> {
  return onDomain(layout, change) as Same<L>;
}

/** `A o B`; see `compose`. With a swizzle on the left the result stays composed, on the right it passes to the left. */
export function composition(a: Layout, b: Tiler): Layout;
export function composition(a: AnyLayout | Swizzle, b: Tiler | ComposedLayout | Swizzle): AnyLayout;
export function composition(a: AnyLayout | Swizzle, b: Tiler | ComposedLayout | Swizzle): AnyLayout {
  if (a instanceof Swizzle) {
    if (b instanceof Layout) return swizzled(a, 0, b);
    throw new LayoutError(`composition: ${String(a)} takes a layout on its right`);
  }
  if (b instanceof Swizzle) return swizzleThrough(domainOnly(a), b);
  if (b instanceof ComposedLayout) {
    requireZeroOffset('composition', b);
    const outer = composition(a, b.outer);
    return composition(outer, b.inner);
  }
  return onDomain(a, (inner) => compose(inner, b));
}

function domainOnly(layout: AnyLayout): Layout {
  if (layout instanceof Layout) return layout;
  throw new LayoutError(`composition: ${String(layout)} and a swizzle on its right do not merge`);
}

export function coalesce<L extends AnyLayout>(layout: L, profile?: Tuple<unknown>): Same<L> {
  return keep(layout, (inner) => coalescePlain(inner, profile));
}

export function filter<L extends AnyLayout>(layout: L, profile?: Tuple<unknown>): Same<L> {
  return keep(layout, (inner) => filterPlain(inner, profile));
}

export function complement(layout: AnyLayout, cotarget?: IntTuple): Layout {
  return complementPlain(domainOf(layout), cotarget);
}

/** See `rightInverse` of plain layouts; `(S o L)^-1 = L^-1 o S`, which is again a swizzle before a layout. */
export function rightInverse<L extends AnyLayout>(layout: L): Same<L> {
  return inverted('right_inverse', layout, rightInversePlain) as Same<L>;
}

export function leftInverse<L extends AnyLayout>(layout: L): Same<L> {
  return inverted('left_inverse', layout, leftInversePlain) as Same<L>;
}

function inverted(name: string, layout: AnyLayout, invert: (plain: Layout) => Layout): AnyLayout {
  if (layout instanceof Layout) return invert(layout);
  requireZeroOffset(name, layout);
  if (layout.outer instanceof Swizzle) return swizzleThrough(invert(layout.inner), layout.outer);
  return compose(invert(layout.inner), invert(layout.outer));
}

export function logicalDivide<L extends AnyLayout>(layout: L, tiler: Tiler): Same<L> {
  return keep(layout, (inner) => divideLogical(inner, tiler));
}

export function zippedDivide<L extends AnyLayout>(layout: L, tiler: Tiler): Same<L> {
  return keep(layout, (inner) => divideZipped(inner, tiler));
}

export function tiledDivide<L extends AnyLayout>(layout: L, tiler: Tiler): Same<L> {
  return keep(layout, (inner) => divideTiled(inner, tiler));
}

export function flatDivide<L extends AnyLayout>(layout: L, tiler: Tiler): Same<L> {
  return keep(layout, (inner) => divideFlat(inner, tiler));
}

export function zippedProduct<L extends AnyLayout>(block: L, tiler: Tiler): Same<L> {
  return keep(block, (inner) => productZipped(inner, tiler));
}

export function tiledProduct<L extends AnyLayout>(block: L, tiler: Tiler): Same<L> {
  return keep(block, (inner) => productTiled(inner, tiler));
}

export function flatProduct<L extends AnyLayout>(block: L, tiler: Tiler): Same<L> {
  return keep(block, (inner) => productFlat(inner, tiler));
}

export function logicalProduct<L extends AnyLayout>(block: L, tiler: Tiler): Same<L> {
  return keep(block, (inner) => productLogical(inner, tiler));
}

export function blockedProduct<L extends AnyLayout>(block: L, tiler: Layout): Same<L> {
  return keep(block, (inner) => productBlocked(inner, tiler));
}

export function rakedProduct<L extends AnyLayout>(block: L, tiler: Layout): Same<L> {
  return keep(block, (inner) => productRaked(inner, tiler));
}

export function tileToShape<L extends AnyLayout>(block: L, shape: IntTuple, order: IntTuple | Major = 'left'): Same<L> {
  return keep(block, (inner) => fillShape(inner, shape, order));
}

/** See `fillMmaShape`: `tile_to_mma_shape` of CuTe. */
export function tileToMmaShape<L extends AnyLayout>(
  block: L,
  shape: IntTuple,
  order: IntTuple | Major = 'left',
): Same<L> {
  return keep(block, (inner) => fillMmaShape(inner, shape, order));
}

export function flattened<L extends AnyLayout>(layout: L): Same<L> {
  return keep(layout, flattenLayout);
}

/** Modes `begin` to `end` become one mode. */
export function groupModes<L extends AnyLayout>(layout: L, begin: number, end: number): Same<L> {
  return keep(layout, (inner) => mapTuples(inner, (tuple) => groupTuple(tuple, begin, end)));
}

/** Modes `begin` (included) to `end` (excluded). */
export function take<L extends AnyLayout>(layout: L, begin: number, end: number): Same<L> {
  return keep(layout, (inner) => mapTuples(inner, (tuple) => takeTuple(tuple, begin, end)));
}

export function select<L extends AnyLayout>(layout: L, ...modes: number[]): Same<L> {
  return keep(layout, (inner) => mapTuples(inner, (tuple) => selectTuple(tuple, ...modes)));
}

/** Appends modes `1:0`, or `item`, until there are `rank`. */
export function append<L extends AnyLayout>(layout: L, rank?: number, item?: Layout): Same<L> {
  return keep(layout, (inner) => appendLayout(inner, rank, item));
}

/** One more than the largest index; of a swizzled layout that of its inner layout. */
export function cosize(layout: AnyLayout, ...path: number[]): Leaf {
  return cosizePlain(domainOf(layout), ...path);
}
