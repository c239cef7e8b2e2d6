import { LayoutError } from './error.ts';
import { isDynamic, type Leaf } from './leaf.ts';

/** Whole numbers of JavaScript are exact up to 2^53; beyond that an index would be rounded silently. */
function exact(value: number): number {
  if (Number.isSafeInteger(value)) return value === 0 ? 0 : value;
  if (!Number.isInteger(value)) throw new LayoutError(`${value} is no whole number`);
  throw new LayoutError(`the whole number ${value} is beyond 2^53, where it is no longer exact`);
}

export function addLeaf(a: Leaf, b: Leaf): Leaf {
  if (typeof a === 'number') {
    if (typeof b === 'number') return exact(a + b);
    return a === 0 ? b : b.add(a);
  }
  return b === 0 ? a : a.add(b);
}

export function subLeaf(a: Leaf, b: Leaf): Leaf {
  if (a === b) return 0;
  if (typeof a === 'number') return typeof b === 'number' ? exact(a - b) : b.subFrom(a);
  return b === 0 ? a : a.sub(b);
}

export function mulLeaf(a: Leaf, b: Leaf): Leaf {
  if (typeof a === 'number') {
    if (typeof b === 'number') return exact(a * b);
    if (a === 0) return 0;
    return a === 1 ? b : b.mul(a);
  }
  if (b === 0) return 0;
  return b === 1 ? a : a.mul(b);
}

/** Quotient rounded towards zero, as in C++. */
export function divLeaf(a: Leaf, b: Leaf): Leaf {
  if (b === 0) throw new LayoutError(`${leafText(a)} is divided by 0`);
  if (b === 1 || a === 0) return a;
  if (a === b) return 1;
  if (typeof a === 'number') return typeof b === 'number' ? exact(Math.trunc(a / b)) : b.divInto(a);
  return a.div(b);
}

/** Remainder with the sign of the dividend, as in C++. */
export function remLeaf(a: Leaf, b: Leaf): Leaf {
  if (b === 0) throw new LayoutError(`the remainder of ${leafText(a)} by 0 was asked for`);
  if (b === 1 || a === 0 || a === b) return 0;
  if (typeof a === 'number') return typeof b === 'number' ? exact(a % b) : b.remInto(a);
  return typeof b === 'number' && a.divisor % b === 0 ? 0 : a.rem(b);
}

/** Smallest whole number that is not below a / b, for a >= 0 and b >= 1. */
export function ceilDivLeaf(a: Leaf, b: Leaf): Leaf {
  if (b === 1 || a === 0) return a;
  if (a === 1 || a === b) return 1;
  if (isDynamic(a) && typeof b === 'number' && a.divisor % b === 0) return a.div(b);
  return divLeaf(subLeaf(addLeaf(a, b), 1), b);
}

/** The smaller of two positive extents, where it can be known. */
export function minLeaf(a: Leaf, b: Leaf): Leaf {
  if (a === b || a === 1) return a;
  if (b === 1) return b;
  if (typeof a === 'number') {
    if (typeof b === 'number') return Math.min(a, b);
    return b.divisor % a === 0 ? a : unknownOrder(a, b);
  }
  return typeof b === 'number' && a.divisor % b === 0 ? b : unknownOrder(a, b);
}

function unknownOrder(a: Leaf, b: Leaf): never {
  throw new LayoutError(
    `it is not known which of ${leafText(a)} and ${leafText(b)} is smaller; ` +
      'give the dynamic extent a divisor, or tile mode by mode',
  );
}

export function absLeaf(a: Leaf): Leaf {
  return typeof a === 'number' ? Math.abs(a) : a;
}

/** -1, 0 or 1; dynamic values count as positive, as everywhere in the algebra. */
export function signLeaf(a: Leaf): number {
  return typeof a === 'number' ? Math.sign(a) + 0 : 1;
}

/** @throws LayoutError for NaN and infinite numbers, with which Euclid's algorithm would not end. */
export function gcdNumber(a: number, b: number): number {
  let x = Math.abs(a);
  let y = Math.abs(b);
  if (!(x + y < Infinity)) throw new LayoutError(`${Number.isFinite(a) ? b : a} is no whole number`);
  while (y !== 0) [x, y] = [y, x % y];
  return x;
}

/**
 * What divides a product whose factors these numbers divide. A product that is no longer exact says nothing about
 * divisors; that of the first factor is still true.
 */
export function divisorOfProduct(left: number, right: number): number {
  const product = left * right;
  return Number.isSafeInteger(product) && product !== 0 ? Math.abs(product) : left;
}

/** A number that divides the leaf: itself, or the divisor that is known of a dynamic one. */
export function divisorOf(a: Leaf): number {
  return typeof a === 'number' ? Math.abs(a) : a.divisor;
}

export function leafText(a: Leaf): string {
  return String(a);
}

/** Equal and known to be so. Two dynamic leaves are equal when they are the same value. */
export function sameLeaf(a: Leaf, b: Leaf): boolean {
  return a === b;
}
