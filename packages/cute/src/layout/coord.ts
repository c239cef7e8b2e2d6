import { addLeaf, divLeaf, mulLeaf, remLeaf } from './arithmetic.ts';
import { addCoord, step, type StrideLeaf } from './basis.ts';
import { LayoutError } from './error.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import {
  _,
  flatten,
  isTuple,
  product,
  productLike,
  sameRank,
  tupleText,
  wrap,
  type Coord,
  type IntTuple,
  type Tuple,
} from './tuple.ts';

/** Strides of a layout: congruent with its shape. */
export type Stride = Tuple<StrideLeaf>;

/**
 * The index of a coordinate. A number stands for a colexicographic coordinate: it is taken apart by the extents, first
 * mode fastest, and what is left over goes to the last mode, which is not wrapped.
 */
export function indexOf(coord: Coord, shape: IntTuple, stride: Stride): IntTuple {
  if (isTuple(coord)) {
    if (!isTuple(shape) || !isTuple(stride) || shape.length !== coord.length) {
      throw new LayoutError(`the coordinate ${tupleText(coord)} does not fit the shape ${tupleText(shape)}`);
    }
    return coord.reduce<IntTuple>((all, part, i) => addCoord(all, indexOf(part, shape[i], stride[i])), 0);
  }
  if (coord === _) throw new LayoutError('an index needs a coordinate without _; slice the layout instead');
  if (!isTuple(shape)) return step(coord, stride as StrideLeaf);
  let rest: Leaf = coord;
  let index: IntTuple = 0;
  const strides = wrap(stride);
  for (let i = 0; i < shape.length; i += 1) {
    const last = i === shape.length - 1;
    const extent = last ? 1 : product(shape[i]);
    index = addCoord(index, indexOf(last ? rest : remLeaf(rest, extent), shape[i], strides[i]));
    if (!last) rest = divLeaf(rest, extent);
  }
  return index;
}

/** `crd2idx` of CuTe. Without strides: the colexicographic number of a coordinate in `shape`. */
export function crd2idx(coord: Coord, shape: IntTuple, stride?: Stride): IntTuple {
  if (stride !== undefined) return indexOf(coord, shape, stride);
  if (!isTuple(coord)) {
    if (coord === _) throw new LayoutError('an index needs a coordinate without _');
    return coord;
  }
  sameRank('crd2idx', coord, shape as Tuple<Leaf>);
  const flat = wrap(flatten(coord)) as readonly Leaf[];
  const extents = wrap(flatten(productLike(shape, coord))) as readonly Leaf[];
  let index: Leaf = 0;
  for (let i = flat.length - 1; i >= 0; i -= 1) index = addLeaf(flat[i], mulLeaf(extents[i], index));
  return index;
}

/**
 * The coordinate of an index in a compact layout: `(index / stride) % extent` in each mode. Without strides the
 * colexicographic coordinate, whose last mode is not wrapped.
 */
export function idx2crd(index: IntTuple, shape: IntTuple, stride?: Stride): IntTuple {
  if (isTuple(index)) {
    const [indices, shapes] = sameRank('idx2crd', index, shape);
    const strides = stride === undefined ? undefined : sameRank('idx2crd', index, stride)[1];
    return indices.map((part, i) => idx2crd(part, shapes[i], strides?.[i]));
  }
  if (!isTuple(shape)) {
    if (stride === undefined) return index;
    if (shape === 1) return 0;
    if (isTuple(stride) || (typeof stride !== 'number' && !isDynamic(stride))) {
      throw new LayoutError(`idx2crd needs plain strides, not ${tupleText(stride)}`);
    }
    return remLeaf(divLeaf(index, stride), shape);
  }
  if (stride !== undefined) {
    const [shapes, strides] = sameRank('idx2crd', shape, stride);
    return shapes.map((extent, i) => idx2crd(index, extent, strides[i]));
  }
  let rest: Leaf = index;
  return shape.map((extent, i) => {
    const last = i === shape.length - 1;
    const size = product(extent);
    const part = last ? rest : remLeaf(rest, size);
    if (!last) rest = divLeaf(rest, size);
    return idx2crd(part, extent);
  });
}

/** A coordinate of `from` as the coordinate of `to` with the same colexicographic number. */
export function crd2crd(coord: IntTuple, from: IntTuple, to: IntTuple): IntTuple {
  if (isTuple(coord) && isTuple(from) && isTuple(to)) {
    const [coords, froms] = sameRank('crd2crd', coord, from);
    const tos = sameRank('crd2crd', coord, to)[1];
    return coords.map((part, i) => crd2crd(part, froms[i], tos[i]));
  }
  return idx2crd(crd2idx(coord, from), to);
}

export function hasUnderscore(coord: Coord): boolean {
  return isTuple(coord) ? coord.some((part) => hasUnderscore(part)) : coord === _;
}

/** The parts of `tuple` that stand at an `_` of `coord`, in one flat row as in CuTe. */
export function sliceTuple<T>(coord: Coord, tuple: Tuple<T>): Tuple<T> {
  if (!isTuple(coord)) return coord === _ ? tuple : [];
  return pick(coord, tuple, (leaf) => leaf === _);
}

/** The parts of `tuple` that stand at a number of `coord`: the complement of a slice. */
export function diceTuple<T>(coord: Coord, tuple: Tuple<T>): Tuple<T> {
  if (!isTuple(coord)) return coord === _ ? [] : tuple;
  return pick(coord, tuple, (leaf) => leaf !== _);
}

function pick<T>(coord: Coord, tuple: Tuple<T>, keep: (leaf: unknown) => boolean): Tuple<T>[] {
  if (!isTuple(coord)) return keep(coord) ? [tuple] : [];
  if (!isTuple(tuple) || tuple.length !== coord.length) {
    throw new LayoutError(`the coordinate ${tupleText(coord)} does not fit ${tupleText(tuple)}`);
  }
  return coord.flatMap((part, i) => pick(part, tuple[i], keep));
}
