import { isDynamic, type Leaf } from './leaf.ts';

/** Bits of whole numbers of up to 53 bits; JavaScript's own operators cut at 32. */
function wide(a: number, b: number, op: (a: bigint, b: bigint) => bigint): number {
  return Number(op(BigInt(a), BigInt(b)));
}

function fits(a: number): boolean {
  return (a | 0) === a;
}

export function xorNumber(a: number, b: number): number {
  return fits(a) && fits(b) ? a ^ b : wide(a, b, (x, y) => x ^ y);
}

export function andNumber(a: number, b: number): number {
  return fits(a) && fits(b) ? a & b : wide(a, b, (x, y) => x & y);
}

export function orNumber(a: number, b: number): number {
  return fits(a) && fits(b) ? a | b : wide(a, b, (x, y) => x | y);
}

export function xorLeaf(a: Leaf, b: Leaf): Leaf {
  if (isDynamic(a)) return b === 0 ? a : a.xor(b);
  if (isDynamic(b)) return a === 0 ? b : b.xor(a);
  return xorNumber(a, b);
}

export function andLeaf(a: Leaf, mask: number): Leaf {
  if (mask === 0) return 0;
  return isDynamic(a) ? a.and(mask) : andNumber(a, mask);
}

/** Shifts right by `bits`; to the left where that is negative. */
export function shiftRight(a: Leaf, bits: number): Leaf {
  if (bits === 0) return a;
  if (isDynamic(a)) return bits > 0 ? a.shr(bits) : a.shl(-bits);
  return bits > 0 ? Math.floor(a / 2 ** bits) : a * 2 ** -bits;
}

export function popcount(value: number): number {
  let count = 0;
  for (let rest = value; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}

export function trailingZeros(value: number): number {
  let zeros = 0;
  for (let rest = value; rest > 0 && rest % 2 === 0; rest /= 2) zeros += 1;
  return zeros;
}

export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && popcount(value) === 1;
}
