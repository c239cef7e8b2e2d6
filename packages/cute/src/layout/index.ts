export * from './algebra.ts';
export { E, ScaledBasis, basisGet, basisValue, isBasis, type StrideLeaf } from './basis.ts';
export { filterZeros, coalesceShape } from './coalesce.ts';
export { ceilDiv } from './complement.ts';
export { withShape } from './compose.ts';
export { ComposedLayout, isLayout, makeComposedLayout, type AnyLayout } from './composed.ts';
export { crd2crd, crd2idx, hasUnderscore, idx2crd, type Stride } from './coord.ts';
export { LayoutError } from './error.ts';
export { nullspace } from './inverse.ts';
export { Layout, concatLayouts, coprofile, coshape, flatCoord, hierCoord, linearCoord, makeLayout } from './layout.ts';
export { DynamicInt, isDynamic, type Leaf } from './leaf.ts';
export { compactMajor, compactOrder, type Major } from './order.ts';
export { dice, domainOffset, size, slice, sliceAndOffset } from './slice.ts';
export { Swizzle, makeSwizzle } from './swizzle.ts';
export { tilerText, type Tiler } from './tiler.ts';
export {
  _,
  isTuple,
  product,
  productEach,
  tupleText,
  type Coord,
  type IntTuple,
  type Tuple,
  type Underscore,
} from './tuple.ts';
export { Unknown } from './unknown.ts';
