import { andLeaf, isPowerOfTwo, orNumber, popcount, shiftRight, trailingZeros, xorLeaf } from './bits.ts';
import { LayoutError } from './error.ts';
import type { Leaf } from './leaf.ts';

/**
 * `S<bits,base,shift>` of CuTe: `x ^ ((x & Y) >> shift)` with `Y` the `bits` bits from `base + max(0, shift)` on. It
 * changes the bits `Z` from `base - min(0, shift)` on and is its own inverse.
 */
export class Swizzle {
  readonly bits: number;
  readonly base: number;
  readonly shift: number;

  /** Throws a `LayoutError` unless `abs(shift) >= bits` (the two groups of bits must not overlap) and all fits 31 bits. */
  constructor(bits: number, base: number, shift: number = bits) {
    if (![bits, base, shift].every((value) => Number.isSafeInteger(value)) || bits < 0 || base < 0) {
      throw new LayoutError(`S<${bits},${base},${shift}>: bits and base are whole numbers of at least 0`);
    }
    if (Math.abs(shift) < bits) {
      throw new LayoutError(`S<${bits},${base},${shift}>: the shift must be at least the number of bits, ${bits}`);
    }
    if (bits + base + Math.abs(shift) > 31) {
      throw new LayoutError(`S<${bits},${base},${shift}> reaches beyond bit 31`);
    }
    this.bits = bits;
    this.base = base;
    this.shift = shift === 0 ? 0 : shift;
  }

  /** The bits that decide. */
  get yMask(): number {
    return (2 ** this.bits - 1) * 2 ** (this.base + Math.max(0, this.shift));
  }

  /** The bits that are changed. */
  get zMask(): number {
    return (2 ** this.bits - 1) * 2 ** (this.base - Math.min(0, this.shift));
  }

  apply(index: Leaf): Leaf {
    return this.bits === 0 ? index : xorLeaf(index, shiftRight(andLeaf(index, this.yMask), this.shift));
  }

  equals(other: Swizzle): boolean {
    return this.bits === other.bits && this.base === other.base && this.shift === other.shift;
  }

  toString(): string {
    return `S<${this.bits},${this.base},${this.shift}>`;
  }
}

/** The swizzle whose deciding bits are `y` and whose changed bits are `z`: `0b1000, 0b0100` gives `S<1,2,1>`. */
export function makeSwizzle(y: number, z: number): Swizzle {
  const bits = popcount(y);
  if (bits !== popcount(z)) {
    throw new LayoutError(`no swizzle moves the ${bits} bits of ${y} onto the ${popcount(z)} bits of ${z}`);
  }
  if (bits === 0) return new Swizzle(0, 0, 0);
  const swizzle = new Swizzle(bits, Math.min(trailingZeros(y), trailingZeros(z)), trailingZeros(y) - trailingZeros(z));
  if (orNumber(swizzle.yMask, swizzle.zMask) !== orNumber(y, z)) {
    throw new LayoutError(`the bits ${y} and ${z} are not two runs of neighbours, so no swizzle has them`);
  }
  return swizzle;
}

/** Indices counted in units `n` times as large: the base moves down by log2 n. */
export function upcastSwizzle(swizzle: Swizzle, n: number): Swizzle {
  const base = swizzle.base - logTwo(n);
  return base >= 0
    ? new Swizzle(swizzle.bits, base, swizzle.shift)
    : new Swizzle(Math.max(swizzle.bits + base, 0), 0, swizzle.shift);
}

/** Indices counted in units `n` times as small: the base moves up by log2 n. */
export function downcastSwizzle(swizzle: Swizzle, n: number): Swizzle {
  return new Swizzle(swizzle.bits, swizzle.base + logTwo(n), swizzle.shift);
}

function logTwo(n: number): number {
  if (!isPowerOfTwo(n)) throw new LayoutError(`a swizzle can be recast by a power of two only, not by ${n}`);
  return trailingZeros(n);
}
