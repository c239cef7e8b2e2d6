import { coalesce, composition, cosize, logicalDivide, rightInverse, tileToShape } from './algebra.ts';
import { divLeaf, mulLeaf } from './arithmetic.ts';
import { domainOf, type AnyLayout } from './composed.ts';
import { LayoutError } from './error.ts';
import { Layout, concatLayouts, makeLayout } from './layout.ts';
import type { Leaf } from './leaf.ts';
import type { Part } from './local.ts';
import { domainOffset } from './slice.ts';
import { _, append, type Coord } from './tuple.ts';

/** What one TMA instruction moves, and which of the CTAs that share it asks. */
export interface TmaPartition {
  /** Elements that one instruction moves. */
  readonly elements: number;
  /** CTAs that share the box by multicast: coordinate -> number. Default: one. */
  readonly ctas?: Layout;
  readonly cta?: Coord;
}

/**
 * Regroups the tile in mode 0 of shared memory's layout and of layouts of global memory into the boxes of TMA:
 * ((box, boxes), Rest...), elements in the order of shared memory. With multicast each CTA begins at its own share.
 *
 * @param shared (tile, Rest...) of shared memory; a swizzle does not change the order of boxes
 * @param global (tile, Rest...) of global memory, usually coordinate layouts
 * @returns the layouts of global memory in their order, then that of shared memory, each with where it begins
 */
export function tmaPartition(
  { elements, ctas = makeLayout(1), cta = 0 }: TmaPartition,
  shared: AnyLayout,
  ...global: readonly AnyLayout[]
): Part[] {
  const tile = domainOf(shared).mode(0);
  const inverse = rightInverse(tile);
  const whole = tileToShape(concatLayouts(inverse), tile.size);
  const boxes = logicalDivide(whole, makeLayout(elements));
  const share = mulLeaf(ctas.at(cta), divLeaf(elements, cosize(ctas)));
  return [...global, shared].map((layout) => {
    const own = domainOf(layout).mode(0).size;
    if (own !== tile.size) {
      throw new LayoutError(`tma_partition: the tiles have ${String(tile.size)} and ${String(own)} elements`);
    }
    const tiler = append<Layout | typeof _>([boxes], _, layout.rank);
    const start = append<Leaf>([[share, 0]], 0, layout.rank);
    return domainOffset(start, coalesce(composition(layout, tiler), [[1, 1]]));
  });
}
