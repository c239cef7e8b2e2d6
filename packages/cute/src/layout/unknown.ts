import { divisorOfProduct, gcdNumber } from './arithmetic.ts';
import { trailingZeros } from './bits.ts';
import { LayoutError } from './error.ts';
import { DynamicInt, type Leaf } from './leaf.ts';

/**
 * A positive whole number of which nothing but a divisor is known: `?` and `?{div=4}` of the notation. Each one is a
 * value of its own; results of arithmetic keep what can be known of their divisor.
 */
export class Unknown extends DynamicInt {
  readonly divisor: number;

  constructor(divisor: number = 1) {
    super();
    if (!Number.isSafeInteger(divisor) || divisor < 1) {
      throw new LayoutError(`a divisor is a whole number of at least 1, not ${divisor}`);
    }
    this.divisor = divisor;
  }

  override add(other: Leaf): Leaf {
    return new Unknown(gcdNumber(this.divisor, divisor(other)));
  }
  override sub(other: Leaf): Leaf {
    return new Unknown(gcdNumber(this.divisor, divisor(other)));
  }
  override mul(other: Leaf): Leaf {
    return new Unknown(divisorOfProduct(this.divisor, divisor(other)));
  }
  override div(other: Leaf): Leaf {
    return new Unknown(typeof other === 'number' && this.divisor % other === 0 ? this.divisor / Math.abs(other) : 1);
  }
  override rem(other: Leaf): Leaf {
    return new Unknown(gcdNumber(this.divisor, divisor(other)));
  }
  override subFrom(left: number): Leaf {
    return new Unknown(gcdNumber(this.divisor, left));
  }
  override divInto(_left: number): Leaf {
    return new Unknown();
  }
  override remInto(left: number): Leaf {
    return new Unknown(gcdNumber(this.divisor, left));
  }
  override xor(other: Leaf): Leaf {
    return new Unknown(powerOfTwo(gcdNumber(this.divisor, divisor(other))));
  }
  override and(other: Leaf): Leaf {
    return new Unknown(Math.max(powerOfTwo(this.divisor), powerOfTwo(divisor(other))));
  }
  override shl(bits: number): Leaf {
    return new Unknown(divisorOfProduct(this.divisor, 2 ** bits));
  }
  override shr(bits: number): Leaf {
    return this.div(2 ** bits);
  }
  override toString(): string {
    return this.divisor === 1 ? '?' : `?{div=${this.divisor}}`;
  }
}

function divisor(leaf: Leaf): number {
  return typeof leaf === 'number' ? leaf : leaf.divisor;
}

/** The largest power of two that divides `value`; bit operations keep no other factor. */
function powerOfTwo(value: number): number {
  return value === 0 ? 1 : 2 ** trailingZeros(Math.abs(value));
}
