export * from './algebra.ts';
export { E, ScaledBasis, basisGet, basisValue, isBasis, type StrideLeaf } from './basis.ts';
export { filterZeros, coalesceShape, coalesceX } from './coalesce.ts';
export {
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
export { ceilDiv } from './complement.ts';
export { withShape } from './compose.ts';
export { ComposedLayout, domainOf, isLayout, makeComposedLayout, type AnyLayout } from './composed.ts';
export { makeFragmentLike, makeIdentityLayout, makeLayoutLike, makeOrderedLayout } from './construct.ts';
export { crd2crd, crd2idx, hasUnderscore, idx2crd, type Stride } from './coord.ts';
export { LayoutError } from './error.ts';
export { nullspace } from './inverse.ts';
export { Layout, concatLayouts, coprofile, coshape, flatCoord, hierCoord, linearCoord, makeLayout } from './layout.ts';
export { DynamicInt, isDynamic, type Leaf } from './leaf.ts';
export { localPartition, localTile, outerPartition, type Part, type Projection } from './local.ts';
export { drawValue, tableOfValue } from './notation-draw.ts';
export { evaluate, evaluateText } from './notation.ts';
export { formatValue, type Value } from './notation-value.ts';
export { compactMajor, compactOrder, type Major } from './order.ts';
export { print } from './print.ts';
export { zipLayout, zipLayouts } from './product.ts';
export { downcast, recast, recastSwizzle, upcast } from './recast.ts';
export { sameFunction, sameLayout } from './same.ts';
export { dice, domainOffset, size, slice, sliceAndOffset } from './slice.ts';
export { smemLayoutAtom, type SwizzleSpan } from './smem-layout.ts';
export { toSVG, toSVGThreadValues } from './svg.ts';
export { Swizzle, downcastSwizzle, makeSwizzle, upcastSwizzle } from './swizzle.ts';
export {
  TiledCopy,
  makeCotiledCopy,
  makeTiledCopy,
  makeTiledCopyD,
  makeTiledCopyS,
  type CopyAtomLayouts,
} from './tiled-copy.ts';
export { TiledMma, makeTiledCopyCAtom, makeTiledCopyFor, type MmaAtomLayouts, type Operand } from './tiled-mma.ts';
export { tilerText, type Tiler } from './tiler.ts';
export * as tuples from './tuple.ts';
export * as tupleMath from './tuple-math.ts';
export { _, isTuple, product, productEach, tupleText } from './tuple.ts';
export type { Coord, IntTuple, Tuple, Underscore } from './tuple.ts';
export { tmaPartition, type TmaPartition } from './tma-partition.ts';
export { makeLayoutTV, type ThreadValueLayout } from './tv.ts';
export { Unknown } from './unknown.ts';
