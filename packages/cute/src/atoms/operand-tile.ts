import { tileToShape, zippedDivide } from '../layout/algebra.ts';
import { E } from '../layout/basis.ts';
import { domainOf, type AnyLayout } from '../layout/composed.ts';
import { Layout } from '../layout/layout.ts';
import type { Leaf } from '../layout/leaf.ts';
import { smemLayoutAtom } from '../layout/smem-layout.ts';
import { Swizzle } from '../layout/swizzle.ts';
import { isTuple, product, wrap, type IntTuple } from '../layout/tuple.ts';
import type { TensorMapDescription } from '../types/tensor-map.ts';
import type { MatrixDescriptor, SwizzleMode } from './descriptors.ts';
import { describeOperand, type Major } from './smem-descriptor.ts';

/** From the algebra's layouts to what TMA and the tensor cores want to know. */

const MODES: Readonly<Record<number, SwizzleMode>> = { 0: 'none', 1: '32', 2: '64', 3: '128' };

/**
 * An operand's tile in shared memory, (rows, K), made of swizzled atoms. Those across the contiguous dimension lie side
 * by side, so that one TMA box fills a whole column of them.
 */
export function smemTile(
  major: Major,
  swizzle: SwizzleMode,
  elementBits: number,
  rows: number,
  depth: number,
): AnyLayout {
  const atom = smemLayoutAtom(major, swizzle === 'none' ? 16 : (Number(swizzle) as 32 | 64 | 128), elementBits);
  return tileToShape(atom, [rows, depth], major === 'k' ? [0, 1] : [1, 0]);
}

/**
 * The swizzle of a layout of elements as the hardware names it.
 *
 * @throws RangeError where the hardware does not know it
 */
export function swizzleMode(layout: AnyLayout, elementBits: number): SwizzleMode {
  if (layout instanceof Layout) return 'none';
  const { outer, offset } = layout;
  if (offset !== 0)
    throw new RangeError(`the layout ${String(layout)} has an offset: take the tile's start as the address`);
  if (!(outer instanceof Swizzle)) throw new RangeError(`the hardware knows no ${String(outer)} in shared memory`);
  const base = 7 - Math.log2(elementBits);
  const mode = MODES[outer.bits];
  if (mode === undefined || (outer.bits > 0 && (outer.base !== base || outer.shift !== 3))) {
    throw new RangeError(
      `the hardware exchanges 16-byte pieces, with elements of ${elementBits} bits S<1|2|3,${base},3>; the layout has ${String(outer)}`,
    );
  }
  return mode;
}

export interface OperandSlice extends MatrixDescriptor {
  readonly major: Major;
  /** Bytes from the tile's first element to the slice's. */
  readonly bytes: number;
}

/**
 * The descriptor of what one instruction reads of an operand's tile (rows, K) in shared memory: `rows` rows from `row`
 * on, 32 bytes of K from `k` on.
 *
 * @throws RangeError for layouts that the tensor cores cannot read, with the reason
 */
export function operandSlice(
  layout: AnyLayout,
  elementBits: number,
  part: { readonly row?: number; readonly rows: number; readonly k?: number },
): OperandSlice {
  const { row = 0, rows, k = 0 } = part;
  const depth = 256 / elementBits;
  const plain = domainOf(layout);
  const shape = wrap(plain.shape);
  if (shape.length !== 2) throw new RangeError(`an operand's tile has two modes, rows and K, not ${shape.length}`);
  const extents = shape.map((mode) => known(product(mode), 'extents'));
  if (row + rows > extents[0] || k + depth > extents[1]) {
    throw new RangeError(
      `rows ${row} to ${row + rows} and K ${k} to ${k + depth} leave the tile of ${extents.join(' x ')}`,
    );
  }
  const start = known(plain.at(row, k), 'strides');
  const tile = {
    ...{ rows, depth, bits: elementBits, swizzle: swizzleMode(layout, elementBits) },
    offset: (r: number, d: number): number => known(plain.at(row + r, k + d), 'strides') - start,
  };
  return { ...describeOperand(tile), bytes: (start * elementBits) / 8 };
}

function known(leaf: Leaf, what: string): number {
  if (typeof leaf === 'number') return leaf;
  throw new RangeError(`a tile in shared memory has ${what} that are known while tracing`);
}

export interface TileBoxes {
  /** Elements of one box: the contiguous dimension first, as tensor maps count. */
  readonly box: readonly [contiguous: number, across: number];
  readonly swizzle: SwizzleMode;
  /** Each box of the tile: bytes from the tile's start, and elements along the contiguous dimension. */
  readonly starts: readonly { readonly bytes: number; readonly shift: number }[];
}

/**
 * The TMA boxes that fill an operand's tile (rows, K) in shared memory, one for each column of swizzled atoms.
 *
 * @throws RangeError for a tile that boxes do not fill: made by something else than `smemTile`, or more than 256 across
 */
export function tileBoxes(layout: AnyLayout, elementBits: number): TileBoxes {
  const swizzle = swizzleMode(layout, elementBits);
  const plain = domainOf(layout);
  const [rows, depth] = wrap(plain.shape).map((mode) => known(product(mode), 'extents'));
  const byRow = known(plain.at(0, 1), 'strides') !== 1;
  const [contiguous, across] = byRow ? [rows, depth] : [depth, rows];
  const at = (along: number, over: number): number =>
    known(byRow ? plain.at(along, over) : plain.at(over, along), 'strides');
  const pitch = Math.min(contiguous, (swizzle === 'none' ? 128 : Number(swizzle) * 8) / elementBits);
  if (across > 256) throw new RangeError(`a box has at most 256 rows, the tile ${across}: cut it`);
  const starts = [];
  for (let shift = 0; shift < contiguous; shift += pitch) {
    const start = at(shift, 0);
    for (let over = 0; over < across; over++) {
      for (let along = 0; along < pitch; along++) {
        if (at(shift + along, over) === start + over * pitch + along) continue;
        throw new RangeError(
          `no TMA box fills the layout ${String(layout)}: its columns of ${pitch} elements are not whole`,
        );
      }
    }
    starts.push({ bytes: (start * elementBits) / 8, shift });
  }
  return { box: [pitch, across], swizzle, starts };
}

/**
 * The tensor map of a matrix whose tiles `boxes` fill.
 *
 * @param extents elements of the matrix, the contiguous dimension first
 * @param pitch bytes from one row to the next; absent: no gaps
 */
export function tileMap(
  element: TensorMapDescription['element'],
  extents: readonly [contiguous: number, across: number],
  { box, swizzle }: TileBoxes,
  pitch?: number,
): TensorMapDescription {
  return { element, shape: extents, box, swizzle, ...(pitch === undefined ? {} : { strides: [pitch] }) };
}

/**
 * Where the boxes of a tensor begin: a layout from the number of a tile, one mode per mode of the tensor, to the
 * coordinates that TMA takes. The coordinate tensor of the reference's section 1.1, tiled.
 *
 * @param shape of the tensor
 * @param box of a tile, the same number of modes
 * @param order for each mode the tensor map's dimension, 0 the innermost; absent: the last mode is innermost
 */
export function tmaTiles(shape: readonly Leaf[], box: readonly number[], order?: readonly number[]): Layout {
  if (shape.length !== box.length) {
    throw new RangeError(`a tensor of ${shape.length} modes is not cut into boxes of ${box.length}`);
  }
  const dimensions = order ?? shape.map((_, mode) => shape.length - 1 - mode);
  const coordinates = new Layout(
    [...shape],
    dimensions.map((dimension) => E(dimension)),
  );
  return zippedDivide(coordinates, [...box]).mode(1);
}

/** The coordinates of a tile as a list, innermost first. */
export function tileCoordinates(tiles: Layout, ...tile: readonly Leaf[]): Leaf[] {
  const coordinates = tiles.coordAt([...tile]);
  const list: readonly IntTuple[] = isTuple(coordinates) ? coordinates : [coordinates];
  return list.map((coordinate) => {
    if (isTuple(coordinate)) throw new RangeError('tiles of a tensor have one number for each coordinate');
    return coordinate;
  });
}
