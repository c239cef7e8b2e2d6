import { ScaledBasis } from './basis.ts';
import { ComposedLayout, type AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout, makeLayout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import type { Major } from './order.ts';
import { Swizzle } from './swizzle.ts';
import type { Tiler } from './tiler.ts';
import { _, type Coord, type IntTuple } from './tuple.ts';

/** A named order of modes: `LayoutLeft` and `LayoutRight` of CuTe. */
export class MajorName {
  readonly major: Major;

  constructor(major: Major) {
    this.major = major;
  }
}

/** What an expression of the notation stands for. */
export type Value =
  | Leaf
  | boolean
  | typeof _
  | ScaledBasis
  | Layout
  | ComposedLayout
  | Swizzle
  | MajorName
  | readonly Value[];

export function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export function formatValue(value: Value): string {
  if (isList(value)) {
    const parts = value.map((part) => formatValue(part));
    return value.some((part) => part instanceof Layout || part instanceof ComposedLayout)
      ? `<${parts.join(', ')}>`
      : `(${parts.join(',')})`;
  }
  if (value === _) return '_';
  return value instanceof MajorName ? `Layout${value.major === 'left' ? 'Left' : 'Right'}` : String(value);
}

/** A layout; a number or a shape stands for the compact layout of that shape. */
export function asLayout(value: Value | undefined): AnyLayout {
  if (value instanceof Layout || value instanceof ComposedLayout) return value;
  if (value !== undefined && isInts(value)) return makeLayout(value);
  throw new LayoutError(`a layout is expected${instead(value)}`);
}

export function asPlain(value: Value | undefined): Layout {
  const layout = asLayout(value);
  if (layout instanceof Layout) return layout;
  throw new LayoutError(`a layout without a swizzle is expected, not ${String(layout)}`);
}

export function asInts(value: Value | undefined): IntTuple {
  if (value instanceof Layout || value instanceof ComposedLayout) return value.shape;
  if (value !== undefined && isInts(value)) return value;
  throw new LayoutError(`whole numbers are expected${instead(value)}`);
}

export function asNumber(value: Value | undefined): number {
  if (typeof value === 'number') return value;
  throw new LayoutError(`a known whole number is expected${instead(value)}`);
}

export function asLeaf(value: Value | undefined): Leaf {
  if (typeof value === 'number' || isDynamic(value)) return value;
  throw new LayoutError(`a whole number is expected${instead(value)}`);
}

export function asCoord(value: Value | undefined): Coord {
  if (value !== undefined && isCoord(value)) return value;
  throw new LayoutError(`a coordinate is expected${instead(value)}`);
}

export function asTiler(value: Value | undefined): Tiler {
  if (value !== undefined && isTiler(value)) return value;
  throw new LayoutError(`a tiler is expected${instead(value)}`);
}

export function asOrder(value: Value | undefined): IntTuple | Major {
  return value instanceof MajorName ? value.major : asInts(value);
}

export function asSwizzle(value: Value | undefined): Swizzle {
  if (value instanceof Swizzle) return value;
  throw new LayoutError(`a swizzle is expected${instead(value)}`);
}

function instead(value: Value | undefined): string {
  return value === undefined ? '; an argument is missing' : `, not ${formatValue(value)}`;
}

function isInts(value: Value): value is IntTuple {
  return isList(value) ? value.every((part) => isInts(part)) : typeof value === 'number' || isDynamic(value);
}

function isCoord(value: Value): value is Coord {
  return isList(value)
    ? value.every((part) => isCoord(part))
    : value === _ || typeof value === 'number' || isDynamic(value);
}

function isTiler(value: Value): value is Tiler {
  if (isList(value)) return value.every((part) => isTiler(part));
  return value instanceof Layout || isCoord(value);
}
