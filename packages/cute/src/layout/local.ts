import { zippedDivide } from './algebra.ts';
import { domainOf, type AnyLayout } from './composed.ts';
import { diceTuple } from './coord.ts';
import { Layout, flatCoord } from './layout.ts';
import type { Leaf } from './leaf.ts';
import { diceLayout } from './layout.ts';
import { sliceAndOffset } from './slice.ts';
import type { Tiler } from './tiler.ts';
import { _, append, isTuple, productEach, rankOf, repeat, type Coord, type IntTuple, type Tuple } from './tuple.ts';

/** What a partition keeps, and the index where it begins. */
export type Part = [layout: AnyLayout, offset: IntTuple];

/** Modes to use of a tiler and a coordinate: a number keeps a mode, `_` (`X` of CuTe) leaves it out. */
export type Projection = Coord;

/** The tile at `coord` of a layout tiled by `tiler` (`inner_partition`); modes that `coord` lacks stay open. */
export function localTile(layout: AnyLayout, tiler: Tiler, coord: Coord, projection?: Projection): Part {
  if (projection !== undefined) {
    return localTile(layout, diceTuple(projection, tiler as Tuple<Leaf>), diceTuple(projection, coord));
  }
  const tiled = zippedDivide(layout, tiler);
  const inner = domainOf(tiled);
  const rest = isTuple(coord) ? append<Leaf | typeof _>(coord, _, rankOf(inner.mode(1).shape)) : coord;
  return sliceAndOffset([repeat<Leaf | typeof _>(rankOf(inner.mode(0).shape), _), rest], tiled);
}

/** The elements at `coord` of every tile (`outer_partition`). */
export function outerPartition(layout: AnyLayout, tiler: Tiler, coord: Coord): Part {
  const tiled = zippedDivide(layout, tiler);
  const inner = domainOf(tiled);
  const tile = isTuple(coord) ? append<Leaf | typeof _>(coord, _, rankOf(inner.mode(0).shape)) : coord;
  return sliceAndOffset([tile, repeat<Leaf | typeof _>(rankOf(inner.mode(1).shape), _)], tiled);
}

/** The elements of thread `index`, where `threads` maps coordinates of a tile to threads. */
export function localPartition(layout: AnyLayout, threads: Layout, index: Leaf, projection?: Projection): Part {
  const used = projection === undefined ? threads : diceLayout(projection, threads);
  return outerPartition(layout, productEach(used.shape), flatCoord(used, index));
}
