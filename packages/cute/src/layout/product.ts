import { mulLeaf } from './arithmetic.ts';
import { complement, ceilDiv } from './complement.ts';
import { compose } from './compose.ts';
import { divideTiled, openBoth, openRest, tileUnzip } from './divide.ts';
import { LayoutError } from './error.ts';
import { Layout, appendLayout, concatLayouts, cosize, makeLayout } from './layout.ts';
import { compactOrder, type Major } from './order.ts';
import { isTilerTuple, tilerLayout, tilerText, type Tiler } from './tiler.ts';
import { _, get, isTuple, productEach, rankOf, tupleText, wrap, zip, type IntTuple, type Tuple } from './tuple.ts';

/** `(A, complement(A, size(A) * cosize(B)) o B)`: the block `A`, repeated as `B` says. */
export function productLogical(block: Layout, tiler: Tiler): Layout {
  if (tiler === _) return block;
  if (isTilerTuple(tiler)) {
    if (tiler.length > block.rank) {
      throw new LayoutError(`logical_product: the tiler ${tilerText(tiler)} has more modes than ${String(block)}`);
    }
    return concatLayouts(...block.modes().map((mode, i) => (i < tiler.length ? productLogical(mode, tiler[i]) : mode)));
  }
  const tile = tilerLayout(tiler);
  return concatLayouts(block, compose(complement(block, mulLeaf(block.size, cosize(tile))), tile));
}

/** `((BlockM,BlockN,...),(RestM,RestN,...))`. */
export function productZipped(block: Layout, tiler: Tiler): Layout {
  return tileUnzip(productLogical(block, tiler), tiler);
}

/** `((BlockM,BlockN,...),RestM,RestN,...)`. */
export function productTiled(block: Layout, tiler: Tiler): Layout {
  return openRest(productZipped(block, tiler));
}

/** `(BlockM,BlockN,...,RestM,RestN,...)`. */
export function productFlat(block: Layout, tiler: Tiler): Layout {
  return openBoth(productZipped(block, tiler));
}

/** Zips the modes of two layouts: `((a0,b0),(a1,b1),...)`. */
export function zipLayouts(a: Layout, b: Layout): Layout {
  return new Layout(zip([a.shape, b.shape] as Tuple<never>), zip([a.stride, b.stride] as Tuple<never>));
}

/** Each element of `tiler` becomes a block: mode i is (block mode i, tiler mode i). */
export function productBlocked(block: Layout, tiler: Layout): Layout {
  const [inner, outer] = paddedProduct(block, tiler);
  return zipLayouts(inner, outer);
}

/** Like `blocked_product` with the blocks interleaved: mode i is (tiler mode i, block mode i). */
export function productRaked(block: Layout, tiler: Layout): Layout {
  const [inner, outer] = paddedProduct(block, tiler);
  return zipLayouts(outer, inner);
}

function paddedProduct(block: Layout, tiler: Layout): [Layout, Layout] {
  const rank = Math.max(block.rank, tiler.rank);
  const result = productLogical(appendLayout(block, rank), appendLayout(tiler, rank));
  return [result.mode(0), result.mode(1)];
}

/** Repeats `block` until it fills `shape`, in the given order of modes (default: first mode first). */
export function fillShape(block: Layout, shape: IntTuple, order: IntTuple | Major = 'left'): Layout {
  const rank = rankOf(shape);
  if (block.rank > rank) {
    throw new LayoutError(`tile_to_shape: ${String(block)} has more modes than the shape ${tupleText(shape)}`);
  }
  const padded = appendLayout(block, rank);
  const tile = productEach(padded.shape);
  const target = productEach(shape);
  for (const [i, extent] of target.entries()) {
    const part = tile[i];
    if (typeof extent === 'number' && typeof part === 'number' && extent % part !== 0) {
      throw new LayoutError(
        `tile_to_shape: the extent ${part} of mode ${i} of the block ${String(block)} does not divide ${extent}`,
      );
    }
  }
  const times = ceilDiv(target, tile);
  return productBlocked(padded, makeLayout(times, compactOrder(times, order)));
}

/**
 * Repeats a shared-memory atom until it fills `((MmaM,MmaK),RestM,RestK,...)`, the shape of an operand's partition, and
 * groups what one instruction reads: mode 0 is (MmaM,MmaK). It is
 * `tiled_divide(tile_to_shape(block, ((MmaM,RestM),(MmaK,RestK),...), order), (MmaM,MmaK))`.
 */
export function fillMmaShape(block: Layout, shape: IntTuple, order: IntTuple | Major = 'left'): Layout {
  const [instruction, first, second, ...others] = wrap(shape);
  if (!isTuple(instruction) || instruction.length !== 2 || second === undefined) {
    throw new LayoutError(`tile_to_mma_shape: the shape is ((MmaM,MmaK),RestM,RestK,...), not ${tupleText(shape)}`);
  }
  const whole: IntTuple = [[get(instruction, 0), first], [get(instruction, 1), second], ...others];
  return divideTiled(fillShape(block, whole, order), productEach(instruction));
}

/** Zips the modes of a pair: `((a0,a1),(b0,b1))` becomes `((a0,b0),(a1,b1))`. */
export function zipLayout(pair: Layout): Layout {
  return new Layout(zip<unknown>(pair.shape) as IntTuple, zip<unknown>(pair.stride) as Layout['stride']);
}
