import { addCoord } from './basis.ts';
import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { Swizzle } from './swizzle.ts';
import { isTuple, tupleText, type Coord, type IntTuple } from './tuple.ts';

/**
 * `outer o offset o inner`, the function `c -> outer(offset + inner(c))`, for an outer function that does not compose
 * into plain strides: a swizzle, or a layout whose modes do not divide. `inner` defines the domain.
 */
export class ComposedLayout {
  readonly outer: Swizzle | Layout;
  readonly offset: IntTuple;
  readonly inner: Layout;

  constructor(outer: Swizzle | Layout, offset: IntTuple, inner: Layout) {
    this.outer = outer;
    this.offset = offset;
    this.inner = inner;
  }

  get shape(): IntTuple {
    return this.inner.shape;
  }

  get rank(): number {
    return this.inner.rank;
  }

  get depth(): number {
    return this.inner.depth;
  }

  get size(): Leaf {
    return this.inner.size;
  }

  at(...coord: readonly Coord[]): Leaf {
    const index = this.coordAt(...coord);
    if (isTuple(index)) throw new LayoutError(`${String(this)} maps to coordinates, not to indices; ask coordAt`);
    return index;
  }

  coordAt(...coord: readonly Coord[]): IntTuple {
    const inside = addCoord(this.offset, this.inner.coordAt(...coord));
    if (this.outer instanceof Layout) return this.outer.coordAt(inside);
    if (isTuple(inside)) throw new LayoutError(`${String(this)}: a swizzle takes an index, not a coordinate`);
    return this.outer.apply(inside);
  }

  mode(...path: number[]): ComposedLayout {
    return new ComposedLayout(this.outer, this.offset, this.inner.mode(...path));
  }

  toString(): string {
    return `${String(this.outer)} o ${tupleText(this.offset)} o ${String(this.inner)}`;
  }
}

/** Whatever maps coordinates. */
export type AnyLayout = Layout | ComposedLayout;

export function isLayout(value: unknown): value is AnyLayout {
  return value instanceof Layout || value instanceof ComposedLayout;
}

/** `outer o offset o inner`, kept as it is. */
export function makeComposedLayout(outer: Swizzle | Layout, offset: IntTuple, inner: Layout): ComposedLayout {
  return new ComposedLayout(outer, offset, inner);
}

/** As `makeComposedLayout`, but a swizzle that does nothing leaves no trace. */
export function swizzled(outer: Swizzle | Layout, offset: IntTuple, inner: Layout): AnyLayout {
  if (outer instanceof Swizzle && outer.bits === 0 && offset === 0) return inner;
  return new ComposedLayout(outer, offset, inner);
}

/** The same operation on the domain: on a plain layout, or on the inner one of a composed layout. */
export function onDomain(layout: AnyLayout, change: (inner: Layout) => Layout): AnyLayout {
  if (layout instanceof Layout) return change(layout);
  return swizzled(layout.outer, layout.offset, change(layout.inner));
}

/** The plain layout, or the inner one. */
export function domainOf(layout: AnyLayout): Layout {
  return layout instanceof Layout ? layout : layout.inner;
}

export function requireZeroOffset(name: string, layout: ComposedLayout): void {
  const { offset } = layout;
  if (isDynamic(offset) || offset !== 0) {
    throw new LayoutError(`${name}: ${String(layout)} has an offset; it must be 0 here`);
  }
}
