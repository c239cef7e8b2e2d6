import { cosize, rakedProduct, rightInverse } from './algebra.ts';
import { withShape } from './compose.ts';
import { LayoutError } from './error.ts';
import type { Layout } from './layout.ts';
import type { Leaf } from './leaf.ts';
import { productEach } from './tuple.ts';

/** Which thread and which value holds each element of a tile. */
export interface ThreadValueLayout {
  /** Extents of the tile. */
  readonly tiler: readonly Leaf[];
  /** (thread, value) to the colexicographic number of the element in the tile. */
  readonly layout: Layout;
}

/** `make_layout_tv`: `threads` maps (m, n) to a thread, `values` maps (m, n) to a value; each thread's values are adjacent. */
export function makeLayoutTV(threads: Layout, values: Layout): ThreadValueLayout {
  for (const part of [threads, values]) {
    if (cosize(part) !== part.size || rightInverse(part).size !== part.size) {
      throw new LayoutError(`make_layout_tv: ${String(part)} must be compact: each thread and each value once`);
    }
  }
  const tile = rakedProduct(threads, values);
  const inverse = rightInverse(tile);
  return { tiler: productEach(tile.shape), layout: withShape(inverse, [threads.size, values.size]) };
}
