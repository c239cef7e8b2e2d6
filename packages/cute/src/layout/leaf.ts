/**
 * An integer that is not known while a layout is built: a value of the device, or a named unknown of the notation
 * (`?{div=4}`). The algebra asks for nothing else than this class, so it knows neither the IR nor the trace.
 *
 * `divisor` is a positive whole number that is known to divide the value; proofs of alignment and of vector width rest
 * on it. Arithmetic returns a plain number where the result is known (`x * 0`).
 */
export abstract class DynamicInt {
  /** A whole number, at least 1, that divides this value. */
  abstract readonly divisor: number;
  abstract add(other: Leaf): Leaf;
  abstract sub(other: Leaf): Leaf;
  abstract mul(other: Leaf): Leaf;
  /** Quotient rounded towards zero; both sides are non-negative in all uses by the algebra. */
  abstract div(other: Leaf): Leaf;
  abstract rem(other: Leaf): Leaf;
  /** The same operations with this value on the right side of a plain number. */
  abstract subFrom(left: number): Leaf;
  abstract divInto(left: number): Leaf;
  abstract remInto(left: number): Leaf;
  abstract xor(other: Leaf): Leaf;
  abstract and(other: Leaf): Leaf;
  abstract shl(bits: number): Leaf;
  abstract shr(bits: number): Leaf;
  /** As it is printed inside a layout: `?`, `?{div=4}`. */
  abstract toString(): string;
}

/** A whole number that is known, or one that is known only to the device. */
export type Leaf = number | DynamicInt;

export function isDynamic(leaf: unknown): leaf is DynamicInt {
  return leaf instanceof DynamicInt;
}
