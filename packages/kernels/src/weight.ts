/**
 * The weight of a token in a draw: 2^((logit - maximum) * scale) as a whole number of 2^-35. It is specified operation by
 * operation in float32, each rounded to nearest even and none contracted, so that every device has the same numbers; and
 * because they are whole, sums of them are exact and do not depend on order.
 *
 *     x = max((logit - maximum) * scale, -64)
 *     n = x rounded to a whole number, f = x - n
 *     p = 1 + f (c1 + f (c2 + f (c3 + f (c4 + f c5))))      within 1e-7 of 2^f (minimax polynomial)
 *     weight = floor(p * 2^(n + 35)), p rounded to a multiple of 2^-21 before
 *
 * The most likely token has 2^35, so that 2^18 tokens sum up to at most 2^53. What is less likely than that by a factor of
 * more than 2^35.5 has weight 0 and is never drawn: all such tokens of a vocabulary together are below 8e-6.
 */
export const WEIGHT_BITS = 35;
/** The most likely token's weight. */
export const WEIGHT_ONE: number = 2 ** WEIGHT_BITS;
/** Tokens that sums are exact for. */
export const MOST_TOKENS: number = 2 ** (53 - WEIGHT_BITS);
/** c1 to c5, float32. */
export const EXP2_POLYNOMIAL: readonly number[] = [
  0.6931470036506653, 0.24022242426872253, 0.05550733953714371, 0.009671520441770554, 0.0013264745939522982,
];
/** The least x. */
export const LEAST_EXPONENT = -64;
/** Added to a float32 of at most 2^22 it leaves it rounded to a whole number: 1.5 * 2^23. */
export const ROUND_WHOLE = 12582912;
/** Added to p, about 1, it leaves it rounded to a multiple of 2^-21. */
export const ROUND_FRACTION = 6;
export const FRACTION_BITS = 21;
/** Tokens whose logit is below the maximum by more than this times the temperature have weight 0. */
export const NEGLIGIBLE = 26;

const f = Math.fround;
const [c1, c2, c3, c4, c5] = EXP2_POLYNOMIAL;
/** 2^(n + 14) for n = 0, -1, -2... */
const POWERS: Float64Array = Float64Array.from(
  { length: 1 - LEAST_EXPONENT },
  (_none, n) => 2 ** (WEIGHT_BITS - FRACTION_BITS - n),
);

/** The factor from differences of logits to exponents of 2: log2(e) / temperature in float32, finite. */
export function weightScale(temperature: number): number {
  return f(Math.min(Math.LOG2E / temperature, 3e38));
}

/** The weight of a logit; `maximum` is the largest one, finite. Both are float32. */
export function weightOf(logit: number, maximum: number, scale: number): number {
  const x = Math.max(f(f(logit - maximum) * scale), LEAST_EXPONENT);
  const n = f(f(x + ROUND_WHOLE) - ROUND_WHOLE);
  const d = f(x - n);
  const p = f(f(f(f(f(f(f(f(f(f(c5 * d) + c4) * d) + c3) * d) + c2) * d) + c1) * d) + 1);
  const fraction = (f(p + ROUND_FRACTION) - ROUND_FRACTION) * 2 ** FRACTION_BITS;
  return Math.floor(fraction * POWERS[-n]);
}
