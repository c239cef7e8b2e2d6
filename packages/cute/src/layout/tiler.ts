import { LayoutError } from './error.ts';
import { Layout } from './layout.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { _, tupleText, type Tuple, type Underscore } from './tuple.ts';

/**
 * What tiles a layout: a layout, a number `n` (which stands for `n:1`), `_` (which leaves a mode as it is), or a tuple
 * of tilers, one for each mode. A shape is a tiler whose leaves are numbers.
 */
export type Tiler = Tuple<Layout | Leaf | Underscore>;

export function isTilerTuple(tiler: Tiler): tiler is readonly Tiler[] {
  return Array.isArray(tiler);
}

export function tilerText(tiler: Tiler): string {
  if (!isTilerTuple(tiler)) return tiler === _ ? '_' : String(tiler);
  const parts = tiler.map((part) => tilerText(part)).join(', ');
  return hasLayout(tiler) ? `<${parts}>` : tupleText(tiler);
}

function hasLayout(tiler: Tiler): boolean {
  return isTilerTuple(tiler) ? tiler.some((part) => hasLayout(part)) : tiler instanceof Layout;
}

/** A leaf of a tiler as a layout. */
export function tilerLayout(tiler: Layout | Leaf): Layout {
  if (tiler instanceof Layout) return tiler;
  if (typeof tiler === 'number' || isDynamic(tiler)) return new Layout(tiler, tiler === 1 ? 0 : 1);
  throw new LayoutError(`${String(tiler)} is not a tiler`);
}
