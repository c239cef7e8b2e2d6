import type { CacheLayer } from './api.ts';

/*
 * What a command must hold before it enters a list: kernels check nothing, and with wrong counts they would read and
 * write beside their operands.
 */

export function positive(name: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new RangeError(`${name} must be a positive whole number, not ${value}`);
}

/** Keys and values are attended to in whole lines of heads, bfloat16 ones in groups of 16 columns. */
export function attendable(heads: number, { kvHeads, headDim, dtype }: CacheLayer): void {
  positive('heads', heads);
  positive('kvHeads', kvHeads);
  positive('headDim', headDim);
  if (heads % kvHeads !== 0) throw new RangeError(`${heads} heads cannot share ${kvHeads} key-value heads evenly`);
  if (dtype === 'bf16' && headDim % 16 !== 0) {
    throw new RangeError(`heads of ${headDim} cannot be cached as bf16: headDim must be a multiple of 16`);
  }
}
