import { coalesce } from './coalesce.ts';
import { complement } from './complement.ts';
import { compose } from './compose.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts, mapTuples, sliceLayout } from './layout.ts';
import { isTilerTuple, tilerLayout, tilerText, type Tiler } from './tiler.ts';
import { _, rankOf, repeat, zip2By, type Coord } from './tuple.ts';

/**
 * `A o (B, complement(B, shape(coalesce(A))))`: mode 0 walks a tile, mode 1 walks the tiles. A tuple of tilers divides
 * mode by mode; modes without a tiler stay.
 */
export function divideLogical(layout: Layout, tiler: Tiler): Layout {
  if (tiler === _) return layout;
  if (isTilerTuple(tiler)) {
    if (tiler.length > layout.rank) {
      throw new LayoutError(`logical_divide: the tiler ${tilerText(tiler)} has more modes than ${String(layout)}`);
    }
    return concatLayouts(...layout.modes().map((mode, i) => (i < tiler.length ? divideLogical(mode, tiler[i]) : mode)));
  }
  const tile = tilerLayout(tiler);
  return compose(layout, concatLayouts(tile, complement(tile, coalesce(layout).shape)));
}

/** Gathers the tiles in mode 0 and the rests in mode 1, following the profile of the tiler. */
export function tileUnzip(layout: Layout, tiler: Tiler): Layout {
  return mapTuples(layout, (tuple) => zip2By(tuple, tiler));
}

/** `((TileM,TileN,...),(RestM,RestN,...))`. */
export function divideZipped(layout: Layout, tiler: Tiler): Layout {
  return tileUnzip(divideLogical(layout, tiler), tiler);
}

/** `((TileM,TileN,...),RestM,RestN,...)`. */
export function divideTiled(layout: Layout, tiler: Tiler): Layout {
  return openRest(divideZipped(layout, tiler));
}

/** `(TileM,TileN,...,RestM,RestN,...)`. */
export function divideFlat(layout: Layout, tiler: Tiler): Layout {
  return openBoth(divideZipped(layout, tiler));
}

/** Lifts the modes of mode 1 of a pair. */
export function openRest(pair: Layout): Layout {
  return sliceLayout([_, opened(pair, 1)], pair);
}

/** Lifts the modes of both modes of a pair. */
export function openBoth(pair: Layout): Layout {
  return sliceLayout([opened(pair, 0), opened(pair, 1)], pair);
}

function opened(pair: Layout, mode: number): Coord {
  return repeat<typeof _>(rankOf(pair.mode(mode).shape), _);
}
