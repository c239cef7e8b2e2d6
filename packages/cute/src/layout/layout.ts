import { absLeaf, addLeaf, mulLeaf, subLeaf } from './arithmetic.ts';
import { addCoord, isBasis, step } from './basis.ts';
import { crd2crd, crd2idx, diceTuple, idx2crd, indexOf, sliceTuple, type Stride } from './coord.ts';
import { LayoutError } from './error.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { compactMajor, type Major } from './order.ts';
import {
  append as appendTuple,
  depthOf,
  flatten as flattenTuple,
  get as getMode,
  isTuple,
  leavesOf,
  mapLeaves,
  product,
  rankOf,
  repeat,
  tupleText,
  type Coord,
  type IntTuple,
  type Tuple,
} from './tuple.ts';

/**
 * A function from coordinates to indices, `shape:stride` of CuTe. A coordinate is a number (colexicographic: first mode
 * fastest) or any tuple that fits the shape. The last mode does not wrap, so coordinates beyond the shape have a
 * defined index.
 */
export class Layout {
  readonly shape: IntTuple;
  readonly stride: Stride;

  /** Throws a `LayoutError` unless both have one profile and every extent is at least 1. */
  constructor(shape: IntTuple, stride: Stride) {
    checkShape(shape);
    checkCongruent(shape, stride, shape, stride);
    this.shape = shape;
    this.stride = stride;
  }

  /** Number of modes; 1 for a leaf. */
  get rank(): number {
    return rankOf(this.shape);
  }

  get depth(): number {
    return depthOf(this.shape);
  }

  /** Number of coordinates. */
  get size(): Leaf {
    return product(this.shape);
  }

  /** The index of a coordinate. Several arguments are the modes of one coordinate: `at(3, 4)`. */
  at(...coord: readonly Coord[]): Leaf {
    const index = this.coordAt(...coord);
    if (isTuple(index)) {
      throw new LayoutError(`${String(this)} maps to coordinates, not to indices; ask coordAt`);
    }
    return index;
  }

  /** Like `at`, also for layouts whose strides are scaled bases, which map to coordinates. */
  coordAt(...coord: readonly Coord[]): IntTuple {
    return indexOf(coord.length === 1 ? coord[0] : coord, this.shape, this.stride);
  }

  /** The sublayout of a mode, going inwards: `mode(1, 0)`. */
  mode(...path: number[]): Layout {
    return new Layout(getMode(this.shape, ...path), getMode(this.stride, ...path));
  }

  /** The modes, each a layout. */
  modes(): Layout[] {
    return isTuple(this.shape) ? this.shape.map((_mode, i) => this.mode(i)) : [this];
  }

  toString(): string {
    return `${tupleText(this.shape)}:${tupleText(this.stride)}`;
  }
}

function checkShape(shape: IntTuple): void {
  if (isTuple(shape)) {
    for (const mode of shape) checkShape(mode);
  } else if (!isDynamic(shape) && !(Number.isSafeInteger(shape) && shape >= 1)) {
    throw new LayoutError(`an extent is a whole number of at least 1, not ${String(shape)}`);
  }
}

function checkCongruent(shape: IntTuple, stride: Stride, wholeShape: IntTuple, wholeStride: Stride): void {
  if (isTuple(shape)) {
    if (isTuple(stride) && stride.length === shape.length) {
      for (const [i, mode] of shape.entries()) checkCongruent(mode, stride[i], wholeShape, wholeStride);
      return;
    }
  } else if (!isTuple(stride)) {
    const value = isBasis(stride) ? stride.value : stride;
    if (isDynamic(value) || Number.isSafeInteger(value)) return;
    throw new LayoutError(`a stride is a whole number, not ${String(stride)}`);
  }
  throw new LayoutError(
    `the shape ${tupleText(wholeShape)} and the stride ${tupleText(wholeStride)} are not congruent: ` +
      'they must have the same modes',
  );
}

/** `shape:stride`; without strides compact, first mode fastest (or `'right'`: last mode fastest). */
export function makeLayout(shape: IntTuple, stride: Stride | Major = 'left'): Layout {
  const strides = stride === 'left' || stride === 'right' ? compactMajor(shape, 1, stride) : stride;
  return new Layout(shape, strides);
}

/** One layout whose modes are these. */
export function concatLayouts(...layouts: readonly Layout[]): Layout {
  return new Layout(
    layouts.map((part) => part.shape),
    layouts.map((part) => part.stride),
  );
}

/** Number of coordinates of a layout, of one of its modes, or of a shape. */
export function size(of: Layout | IntTuple, ...path: number[]): Leaf {
  return product(getMode(of instanceof Layout ? of.shape : of, ...path));
}

/** The smallest shape that holds every coordinate the layout maps to (one number for plain strides). */
export function coshape(layout: Layout, ...path: number[]): IntTuple {
  const part = path.length === 0 ? layout : layout.mode(...path);
  const extents = leavesOf(part.shape);
  const strides = leavesOf(part.stride);
  const last = extents.reduce<IntTuple>((all, extent, i) => {
    const stride = strides[i];
    const absolute = isBasis(stride) ? step(1, stride) : absLeaf(stride);
    const far = mapLeaves<Leaf, Leaf>(absolute, (leaf) => mulLeaf(subLeaf(extent, 1), absLeaf(leaf)));
    return addCoord(all, far);
  }, 0);
  return mapLeaves<Leaf, Leaf>(last, (leaf) => addLeaf(leaf, 1));
}

/** One more than the largest index: the elements that memory must have (for strides of at least 0). */
export function cosize(layout: Layout, ...path: number[]): Leaf {
  return product(coshape(layout, ...path));
}

/** A 0 for each mode of the coordinates that the layout maps to; 0 for plain strides. */
export function coprofile(layout: Layout): IntTuple {
  return leavesOf(layout.stride).reduce<IntTuple>(
    (all, stride) => addCoord(all, isBasis(stride) ? stride.toCoord(0) : 0),
    0,
  );
}

/** The layout of the modes that `coord` leaves open (`_`). */
export function sliceLayout(coord: Coord, layout: Layout): Layout {
  return new Layout(sliceTuple(coord, layout.shape), sliceTuple(coord, layout.stride));
}

/** The layout of the modes that `coord` fixes. */
export function diceLayout(coord: Coord, layout: Layout): Layout {
  return new Layout(diceTuple(coord, layout.shape), diceTuple(coord, layout.stride));
}

/** Hierarchical coordinate of an index of a compact layout. */
export function hierCoord(layout: Layout, index: Leaf): IntTuple {
  return idx2crd(index, layout.shape, layout.stride);
}

/** Flat coordinate, one number per mode, of an index of a compact layout. */
export function flatCoord(layout: Layout, index: Leaf): IntTuple {
  return crd2crd(hierCoord(layout, index), layout.shape, repeat<Leaf>(layout.rank, 1));
}

/** Colexicographic number of the coordinate of an index of a compact layout. */
export function linearCoord(layout: Layout, index: Leaf): Leaf {
  return crd2idx(hierCoord(layout, index), layout.shape) as Leaf;
}

export function flattenLayout(layout: Layout): Layout {
  return new Layout(flattenTuple(layout.shape), flattenTuple(layout.stride));
}

/** Applies one function of tuples to shape and stride alike. */
export function mapTuples(layout: Layout, change: (tuple: Tuple<unknown>) => Tuple<unknown>): Layout {
  return new Layout(change(layout.shape) as IntTuple, change(layout.stride) as Stride);
}

/** Appends `1:0` (or `item`) until there are `rank` modes. */
export function appendLayout(layout: Layout, rank: number = layout.rank + 1, item: Layout = new Layout(1, 0)): Layout {
  return new Layout(appendTuple(layout.shape, item.shape, rank), appendTuple(layout.stride, item.stride, rank));
}
