import * as algebra from './algebra.ts';
import { E } from './basis.ts';
import { filterZeros } from './coalesce.ts';
import {
  domainDistribute,
  maxAlignment,
  maxCommonLayout,
  maxCommonVector,
  multicastMask,
  nonswizzlePortion,
  productWithSwizzle,
  swizzlePortion,
  transferSwizzle,
} from './common.ts';
import { ceilDiv } from './complement.ts';
import { withShape } from './compose.ts';
import { ComposedLayout, domainOf, makeComposedLayout, onDomain, type AnyLayout } from './composed.ts';
import { makeFragmentLike, makeIdentityLayout, makeLayoutLike, makeOrderedLayout } from './construct.ts';
import { crd2crd, crd2idx, idx2crd } from './coord.ts';
import { LayoutError } from './error.ts';
import { nullspace } from './inverse.ts';
import { Layout, concatLayouts, coshape, coprofile, makeLayout } from './layout.ts';
import { localPartition, localTile, outerPartition } from './local.ts';
import {
  asCoord,
  asInts,
  asLayout,
  asLeaf,
  asNumber,
  asOrder,
  asPlain,
  asSwizzle,
  asTiler,
  isList,
  MajorName,
  type Value,
} from './notation-value.ts';
import { downcast, recast, recastSwizzle, upcast } from './recast.ts';
import { sameFunction } from './same.ts';
import { dice, domainOffset, size, slice, sliceAndOffset } from './slice.ts';
import { smemLayoutAtom, type SwizzleSpan } from './smem-layout.ts';
import { Swizzle, downcastSwizzle, makeSwizzle, upcastSwizzle } from './swizzle.ts';
import { define, type NotationFunction } from './notation-define.ts';
import { makeLayoutTV } from './tv.ts';
import { _, depthOf, get, rankOf, type Tuple } from './tuple.ts';

const onLayout = (
  usage: string,
  operation: (layout: AnyLayout, profile?: Tuple<unknown>) => AnyLayout,
): NotationFunction =>
  define(usage, (layout, profile) =>
    profile === undefined ? operation(asLayout(layout)) : operation(asLayout(layout), asInts(profile)),
  );

const tiled = (
  usage: string,
  operation: (layout: AnyLayout, tiler: ReturnType<typeof asTiler>) => AnyLayout,
): NotationFunction => define(usage, (layout, tiler) => operation(asLayout(layout), asTiler(tiler)));

const rest = (args: readonly (Value | undefined)[]): number[] => args.map((arg) => asNumber(arg));

function modeOf(value: Value | undefined, path: readonly number[]): Value {
  if (value instanceof Layout || value instanceof ComposedLayout)
    return path.length === 0 ? value : value.mode(...path);
  return get(value as Tuple<Value>, ...path);
}

const recastEither = (
  n: number,
  value: Value | undefined,
  onSwizzle: (swizzle: Swizzle, n: number) => Swizzle,
  onLayouts: (layout: AnyLayout, n: number) => AnyLayout,
): Value => (value instanceof Swizzle ? onSwizzle(value, n) : onLayouts(asLayout(value), n));

/** Functions that make, change or ask layouts. */
export const LAYOUT_FUNCTIONS: readonly NotationFunction[] = [
  define('make_layout(shape, [stride or layouts, ...])', (...args) => {
    if (args[0] instanceof Layout) return concatLayouts(...args.map((arg) => asPlain(arg)));
    if (args[1] === undefined) return makeLayout(asInts(args[0]));
    if (args[1] instanceof MajorName) return makeLayout(asInts(args[0]), args[1].major);
    return new Layout(asInts(args[0]), args[1] as Layout['stride']);
  }),
  define('make_ordered_layout(shape, order)', (shape, order) => makeOrderedLayout(asInts(shape), asOrder(order))),
  define('make_layout_like(layout)', (layout) => makeLayoutLike(asLayout(layout))),
  define('make_fragment_like(layout)', (layout) => makeFragmentLike(asLayout(layout))),
  define('make_identity_layout(shape)', (shape) => makeIdentityLayout(asInts(shape))),
  define('make_composed_layout(outer, offset, layout)', (outer, offset, layout) =>
    makeComposedLayout(outer instanceof Swizzle ? outer : asPlain(outer), asInts(offset), asPlain(layout)),
  ),
  define('make_swizzle(y, z)', (y, z) => makeSwizzle(asNumber(y), asNumber(z))),
  define('make_layout_tv(threads, values)', (threads, values) => {
    const { tiler, layout } = makeLayoutTV(asPlain(threads), asPlain(values));
    return [tiler, layout];
  }),
  define('make_smem_layout_atom(span, bits, [order])', (span, bits, order) => {
    const bytes = asNumber(span);
    if (![128, 64, 32, 16].includes(bytes))
      throw new LayoutError(`the span of a swizzle is 128, 64, 32 or 16 bytes, not ${bytes}`);
    const columns = order instanceof MajorName && order.major === 'left';
    return smemLayoutAtom(columns ? 'mn' : 'k', bytes as SwizzleSpan, asNumber(bits));
  }),
  define('tile_to_mma_shape(block, shape, [order])', (block, shape, order) =>
    algebra.tileToMmaShape(asLayout(block), asInts(shape), order === undefined ? 'left' : asOrder(order)),
  ),
  define('composition(a, b)', (a, b) => composeValues(a!, b!)),
  define('coalesce(layout, [profile])', (layout, profile) =>
    algebra.coalesce(asLayout(layout), profile === undefined ? undefined : asInts(profile)),
  ),
  onLayout('filter(layout, [profile])', (layout, profile) => algebra.filter(layout, profile)),
  onLayout('filter_zeros(layout, [profile])', (layout, profile) =>
    onDomain(layout, (inner) => filterZeros(inner, profile)),
  ),
  define('complement(layout, [cotarget])', (layout, cotarget) =>
    algebra.complement(asLayout(layout), cotarget === undefined ? undefined : asInts(cotarget)),
  ),
  define('right_inverse(layout)', (layout) =>
    layout instanceof Swizzle ? layout : algebra.rightInverse(asLayout(layout)),
  ),
  define('left_inverse(layout)', (layout) =>
    layout instanceof Swizzle ? layout : algebra.leftInverse(asLayout(layout)),
  ),
  define('nullspace(layout)', (layout) => nullspace(asPlain(layout))),
  define('with_shape(layout, shape)', (layout, shape) => withShape(asPlain(layout), asInts(shape))),
  tiled('logical_divide(layout, tiler)', algebra.logicalDivide),
  tiled('zipped_divide(layout, tiler)', algebra.zippedDivide),
  tiled('tiled_divide(layout, tiler)', algebra.tiledDivide),
  tiled('flat_divide(layout, tiler)', algebra.flatDivide),
  define('logical_product(block, tiler)', (block, tiler) =>
    tiler instanceof ComposedLayout
      ? productWithSwizzle(asPlain(block), tiler)
      : algebra.logicalProduct(asLayout(block), asTiler(tiler)),
  ),
  tiled('zipped_product(block, tiler)', algebra.zippedProduct),
  tiled('tiled_product(block, tiler)', algebra.tiledProduct),
  tiled('flat_product(block, tiler)', algebra.flatProduct),
  define('blocked_product(block, tiler)', (block, tiler) => algebra.blockedProduct(asLayout(block), asPlain(tiler))),
  define('raked_product(block, tiler)', (block, tiler) => algebra.rakedProduct(asLayout(block), asPlain(tiler))),
  define('tile_to_shape(block, shape, [order])', (block, shape, order) =>
    algebra.tileToShape(asLayout(block), asInts(shape), order === undefined ? 'left' : asOrder(order)),
  ),
  define('get(layout, path...)', (value, ...path) => modeOf(value, rest(path))),
  define('upcast(layout, n)', (value, n) => recastEither(asNumber(n), value, upcastSwizzle, upcast)),
  define('downcast(layout, n)', (value, n) => recastEither(asNumber(n), value, downcastSwizzle, downcast)),
  define('recast_layout(layout, old_bits, new_bits)', (value, before, after) =>
    value instanceof Swizzle
      ? recastSwizzle(value, asNumber(before), asNumber(after))
      : recast(asLayout(value), asNumber(before), asNumber(after)),
  ),
  define('max_common_layout(a, b)', (a, b) => maxCommonLayout(asLayout(a), asLayout(b))),
  define('max_common_vector(a, b)', (a, b) => maxCommonVector(asLayout(a), asLayout(b))),
  define('max_alignment(layout)', (layout) =>
    layout instanceof Swizzle ? 2 ** layout.base : maxAlignment(asLayout(layout)),
  ),
  define('domain_distribute(shape, count)', (shape, count) => domainDistribute(asInts(shape), asNumber(count))),
  define('get_swizzle_portion(layout)', (layout) => swizzlePortion(asLayout(layout))),
  define('get_nonswizzle_portion(layout)', (layout) => nonswizzlePortion(asLayout(layout))),
  define('slice(coord, layout)', (coord, layout) =>
    isList(layout!) || typeof layout === 'number' ? sliceShape(coord, layout) : slice(asCoord(coord), asLayout(layout)),
  ),
  define('dice(coord, layout)', (coord, layout) => dice(asCoord(coord), asLayout(layout))),
  define('slice_and_offset(coord, layout)', (coord, layout) => sliceAndOffset(asCoord(coord), asLayout(layout))),
  define('local_tile(layout, tiler, coord, [projection])', (layout, tiler, coord, projection) =>
    localTile(
      asLayout(layout),
      asTiler(tiler),
      asCoord(coord),
      projection === undefined ? undefined : asCoord(projection),
    ),
  ),
  define('local_partition(layout, threads, index, [projection])', (layout, threads, index, projection) =>
    localPartition(
      asLayout(layout),
      asPlain(threads),
      asLeaf(index),
      projection === undefined ? undefined : asCoord(projection),
    ),
  ),
  define('outer_partition(layout, tiler, coord)', (layout, tiler, coord) =>
    outerPartition(asLayout(layout), asTiler(tiler), asCoord(coord)),
  ),
  define('domain_offset(coord, layout)', (coord, layout) => domainOffset(asInts(coord), asLayout(layout))),
  define('transfer_swizzle(old, new, bits, base, shift)', (old, next, bits, base, shift) =>
    transferSwizzle(new Swizzle(asNumber(bits), asNumber(base), asNumber(shift)), asPlain(old), asPlain(next)),
  ),
  define('make_layout_image_mask(layout, coord, modes...)', (layout, coord, ...modes) => {
    if (!isList(coord!))
      throw new LayoutError('make_layout_image_mask takes a coordinate with all modes of the layout');
    return multicastMask(
      asPlain(layout),
      coord.map((part) => (part === _ ? _ : asLeaf(part))),
      ...rest(modes),
    );
  }),
  define('size(value, path...)', (value, ...path) => size(asInts(modeOf(value, rest(path))))),
  define('cosize(layout, path...)', (layout, ...path) => algebra.cosize(asLayout(layout), ...rest(path))),
  define('coshape(layout)', (layout) => coshape(domainOf(asLayout(layout)))),
  define('coprofile(layout)', (layout) => coprofile(domainOf(asLayout(layout)))),
  define('rank(value, path...)', (value, ...path) => rankOf(asInts(modeOf(value, rest(path))))),
  define('depth(value, path...)', (value, ...path) => depthOf(asInts(modeOf(value, rest(path))))),
  define('shape(layout, path...)', (value, ...path) => asInts(modeOf(value, rest(path)))),
  define('stride(layout, path...)', (value, ...path) => asPlain(modeOf(value, rest(path))).stride),
  define('crd2idx(coord, shape, [stride])', (coord, shape, stride) =>
    shape instanceof Layout || shape instanceof ComposedLayout
      ? shape.coordAt(asInts(coord))
      : crd2idx(asInts(coord), asInts(shape), stride as Layout['stride'] | undefined),
  ),
  define('idx2crd(index, shape, [stride])', (index, shape, stride) =>
    shape instanceof Layout
      ? idx2crd(asInts(index), shape.shape, shape.stride)
      : idx2crd(asInts(index), asInts(shape), stride as Layout['stride'] | undefined),
  ),
  define('crd2crd(coord, from, to)', (coord, from, to) => crd2crd(asInts(coord), asInts(from), asInts(to))),
  define('ceil_div(a, b)', (a, b) =>
    b instanceof Layout ? algebra.complement(b, asInts(a)).shape : ceilDiv(asInts(a), asInts(b)),
  ),
  define('equal(a, b)', (a, b) => sameFunction(asPlain(a), asPlain(b))),
  define('E(modes...)', (...modes) => E(...rest(modes))),
  define('apply(swizzle, index)', (swizzle, index) => asSwizzle(swizzle).apply(asLeaf(index))),
];

function sliceShape(coord: Value | undefined, shape: Value | undefined): Value {
  return slice(asCoord(coord), makeLayout(asInts(shape))).shape;
}

/** The composition of two values, of which the right one may be a tiler. */
export function composeValues(left: Value, right: Value): Value {
  const a = left instanceof Swizzle ? left : asLayout(left);
  if (right instanceof Swizzle || right instanceof ComposedLayout) return algebra.composition(a, right);
  return algebra.composition(a, a instanceof Swizzle ? asPlain(right) : asTiler(right));
}
