import { abs, ex2, f32, fma, min, rcp } from '@rose/cute';

/** Functions of the device in float32, from PTX's approximations; each says its error. */

/** 1 / (1 + e^-x): 0 and 1 at the ends, never NaN. */
export function sigmoid(x: f32): f32 {
  'use gpu';
  return rcp(1 + ex2(x * -Math.LOG2E));
}

/** x sigmoid(x). */
export function silu(x: f32): f32 {
  'use gpu';
  return x * sigmoid(x);
}

/** GELU's approximation by tanh: 0.5 (1 + tanh(u)) is sigmoid(2 u), which keeps its precision where tanh nears -1. */
export function geluTanh(x: f32): f32 {
  'use gpu';
  const twice = 2 * Math.sqrt(2 / Math.PI);
  return x * sigmoid(x * fma(x * x, f32(twice * 0.044715), f32(twice)));
}

/**
 * Coefficients of e^(z^2) erfc(z) / t as a polynomial in t = 1 / (1 + 0.4 z), lowest first: interpolated at nine Chebyshev
 * nodes for z from 0 to 9.3, relative error below 3e-7 when evaluated in float32.
 */
const ERFC = [
  0.22560681402683258, 0.22691795229911804, 0.1984410583972931, 0.2070995718240738, 0.04703671485185623,
  0.13608337938785553, 0.041304975748062134, -0.11938583850860596, 0.03689541295170784,
] as const;

/** GELU: x Phi(x), from the complementary error function, so that its tail for negative x keeps its precision. */
export function gelu(x: f32): f32 {
  'use gpu';
  const t = rcp(fma(abs(x), f32(0.4 * Math.SQRT1_2), f32(1)));
  let sum = f32(ERFC[8]);
  for (let i = 7; i >= 0; i--) sum = fma(sum, t, f32(ERFC[i]));
  // Phi(-|x|) = erfc(|x| / sqrt(2)) / 2.
  const tail = 0.5 * t * sum * ex2(x * x * (-0.5 * Math.LOG2E));
  return x * (x < 0 ? tail : 1 - tail);
}

/**
 * -log2(e) logit(Phi(x)) / x as a polynomial in x^2, lowest first, Phi the normal distribution's integral: of the least error
 * of x Phi(x), relative for x from -4 on and below, and absolute beyond, where it is below 4e-8.
 */
const LOGIT = [
  1.595203095929381, 0.07350553013817201, -0.00041943634079039235, -0.00004685840190070875, 0.000002399046913437072,
  -3.7411662240195114e-8,
].map((coefficient) => -Math.LOG2E * coefficient);
/** The largest x^2 that the polynomial is for; the logit grows as a line from there on. */
const LOGIT_END = 5.5 ** 2;

/** GELU to 2^-12 relative, an eighth of what rounding to bf16 may do: x / (1 + e^-logit(Phi(x))), a third fewer instructions. */
export function geluShort(x: f32): f32 {
  'use gpu';
  const square = min(x * x, LOGIT_END);
  let sum = f32(LOGIT[5]);
  for (let i = 4; i >= 0; i--) sum = fma(sum, square, f32(LOGIT[i]));
  return x * rcp(1 + ex2(x * sum));
}

/** (tanh(z) / z - 1) / z^2 as a polynomial in z^2, lowest first: interpolated at six Chebyshev nodes for z to 0.6. */
const TANH = [
  -0.33333333231212736, 0.13333312867039748, -0.053961551802792634, 0.021788322111115293, -0.00841007107939329,
  0.0023707658944850025,
] as const;

/** The hyperbolic tangent to about 2^-21 relative: PTX's own is wrong by 2^-11, which float32 outputs would show. */
export function tanh(x: f32): f32 {
  'use gpu';
  const square = x * x;
  let sum = f32(TANH[5]);
  for (let i = 4; i >= 0; i--) sum = fma(sum, square, f32(TANH[i]));
  const size = abs(x);
  const far = fma(rcp(1 + ex2(size * (2 * Math.LOG2E))), f32(-2), f32(1));
  return size < 0.6 ? fma(x * square, sum, x) : x < 0 ? 0 - far : far;
}
