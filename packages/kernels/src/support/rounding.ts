import type { Bound } from '../spec.ts';

/** How much float32 arithmetic may add up to, in roundings of 2^-24, and the constants that several kernels' bounds share. */

/** PTX's approximations, in units of 2^-24: ex2.approx 2^-22, rsqrt.approx 2^-22.9, rcp.approx 1 ulp, division 2 ulp. */
export const APPROXIMATION = { ex2: 4, rsqrt: 3, rcp: 2, div: 4 } as const;

/**
 * A row's statistic is a sum over a tree at most this deep (values of a thread one after the other, then lanes, then
 * warps); terms of one sign, so that each level adds at most one rounding relative to the sum.
 */
export const SUM_DEPTH = 80;

export function bound(roundings: number, why: string): Bound {
  return { roundings, why };
}
