import { addLeaf, ceilDivLeaf, divisorOf, gcdNumber, mulLeaf, remLeaf } from './arithmetic.ts';
import { ceilDiv } from './complement.ts';
import { LayoutError } from './error.ts';
import { isDynamic, type Leaf } from './leaf.ts';
import { isTuple, leavesOf, product, rankOf, sameRank, tupleText, wrap, type IntTuple, type Tuple } from './tuple.ts';

/**
 * Division of shapes: mode by mode; a number is used up from the first mode on. Throws where of two known extents
 * neither divides the other.
 */
export function shapeDiv(a: IntTuple, b: IntTuple): IntTuple {
  if (isTuple(a)) {
    if (isTuple(b)) {
      const [left, right] = sameRank('shape_div', a, b);
      return left.map((mode, i) => shapeDiv(mode, right[i]));
    }
    let rest: IntTuple = b;
    return a.map((mode) => {
      const quotient = shapeDiv(mode, rest);
      rest = shapeDiv(rest, mode);
      return quotient;
    });
  }
  const by = isTuple(b) ? product(b) : b;
  if (typeof a === 'number' && typeof by === 'number' && remLeaf(a, by) !== 0 && remLeaf(by, a) !== 0) {
    throw new LayoutError(`shape_div: of ${a} and ${by} neither divides the other`);
  }
  return ceilDivLeaf(a, by);
}

/** Each extent of `a` rounded up to a multiple of that of `b`. */
export function roundUp(a: IntTuple, b: IntTuple): IntTuple {
  if (isTuple(a) && isTuple(b)) {
    if (b.length > a.length) throw new LayoutError('round_up: the second argument has more modes than the first');
    return a.map((mode, i) => roundUp(mode, i < b.length ? b[i] : 1));
  }
  if (isTuple(a) || isTuple(b)) throw new LayoutError(`round_up: ${tupleText(a)} and ${tupleText(b)} do not fit`);
  return mulLeaf(ceilDivLeaf(a, b), b);
}

/** Each leaf of `a` times the size of its part of `b`. */
export function elemScale(a: IntTuple, b: IntTuple): IntTuple {
  if (!isTuple(a)) return mulLeaf(a, product(b));
  const [left, right] = sameRank('elem_scale', a, b);
  return left.map((mode, i) => elemScale(mode, right[i]));
}

/** Running products from the left, the first being 1. */
export function prefixProduct(tuple: IntTuple, start: Leaf = 1): IntTuple {
  let next = start;
  const go = (part: IntTuple): IntTuple => {
    if (isTuple(part)) return part.map((mode) => go(mode));
    const before = next;
    next = mulLeaf(next, part);
    return before;
  };
  return go(tuple);
}

export function minOf(...tuples: readonly IntTuple[]): number {
  return knownLeaves('min', tuples).reduce((a, b) => Math.min(a, b));
}

export function maxOf(...tuples: readonly IntTuple[]): number {
  return knownLeaves('max', tuples).reduce((a, b) => Math.max(a, b));
}

/** The greatest common divisor of all leaves; of dynamic ones of their known divisors. */
export function gcdOf(...tuples: readonly IntTuple[]): number {
  return tuples.flatMap((tuple) => leavesOf(tuple)).reduce<number>((all, leaf) => gcdNumber(all, divisorOf(leaf)), 0);
}

function knownLeaves(name: string, tuples: readonly IntTuple[]): number[] {
  return tuples
    .flatMap((tuple) => leavesOf(tuple))
    .map((leaf) => {
      if (isDynamic(leaf)) throw new LayoutError(`${name}: ${String(leaf)} is not known`);
      return leaf;
    });
}

/** Same profile: the same modes at every level. */
export function congruent(a: Tuple<unknown>, b: Tuple<unknown>): boolean {
  if (!Array.isArray(a)) return !Array.isArray(b);
  return Array.isArray(b) && a.length === b.length && a.every((mode, i) => congruent(mode, b[i]));
}

/** `a` has the profile of `b` down to its own leaves. */
export function weaklyCongruent(a: Tuple<unknown>, b: Tuple<unknown>): boolean {
  if (!Array.isArray(a)) return true;
  return Array.isArray(b) && a.length === b.length && a.every((mode, i) => weaklyCongruent(mode, b[i]));
}

/** Every coordinate of `a` is one of `b`: `b` has the size of `a` at each leaf of `a`. */
export function compatible(a: IntTuple, b: IntTuple): boolean {
  if (!isTuple(a)) return a === product(b);
  return isTuple(b) && a.length === b.length && a.every((mode, i) => compatible(mode, b[i]));
}

/** The tiler `b` divides the shape `a` without overhang. */
export function evenlyDivides(a: IntTuple, b: IntTuple): boolean {
  if (!isTuple(b)) return product(a) === mulLeaf(b, product(ceilDiv(a, b)));
  const modes = wrap(a);
  return b.length <= rankOf(a) && b.every((part, i) => evenlyDivides(modes[i], part));
}

/** Every leaf of `a` below that of `b`: whether a coordinate lies inside a shape. */
export function elemLess(a: IntTuple, b: IntTuple): boolean {
  if (!isTuple(a) || !isTuple(b)) return knownLess('elem_less', a, b) < 0;
  return a.length <= b.length && a.every((mode, i) => elemLess(mode, b[i]));
}

/** Order by the first mode that differs. */
export function lexLess(a: IntTuple, b: IntTuple): boolean {
  return lexicographic(leavesOf(a), leavesOf(b), 'lex_less');
}

/** Order by the last mode that differs. */
export function colexLess(a: IntTuple, b: IntTuple): boolean {
  return lexicographic(leavesOf(a).reverse(), leavesOf(b).reverse(), 'colex_less');
}

function lexicographic(a: readonly Leaf[], b: readonly Leaf[], name: string): boolean {
  for (const [i, leaf] of a.entries()) {
    if (i >= b.length) return false;
    const order = knownLess(name, leaf, b[i]);
    if (order !== 0) return order < 0;
  }
  return a.length < b.length;
}

function knownLess(name: string, a: IntTuple, b: IntTuple): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  throw new LayoutError(`${name}: ${tupleText(a)} and ${tupleText(b)} cannot be compared`);
}

/** The place of the first mode that is `wanted`; the rank where there is none. */
export function find(tuple: IntTuple, wanted: Leaf): number {
  return findIf(tuple, (mode) => mode === wanted);
}

export function findIf<T>(tuple: Tuple<T>, test: (mode: Tuple<T>) => boolean): number {
  const at = wrap(tuple).findIndex((mode) => test(mode));
  return at < 0 ? rankOf(tuple) : at;
}

/** The next coordinate of `shape` in colexicographic order; undefined after the last. */
export function incrementCoord(coord: IntTuple, shape: IntTuple): IntTuple | undefined {
  let carry = true;
  const go = (part: IntTuple, extent: IntTuple): IntTuple => {
    if (isTuple(part)) {
      const [parts, extents] = sameRank('increment_coord', part, extent);
      return parts.map((mode, i) => go(mode, extents[i]));
    }
    if (!carry) return part;
    const next = addLeaf(part, 1);
    carry = next === extent;
    return carry ? 0 : next;
  };
  const next = go(coord, shape);
  return carry ? undefined : next;
}
