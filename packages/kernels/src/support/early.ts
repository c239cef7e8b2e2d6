import type { i32, Tensor } from '@rose/cute';

/**
 * An element that a kernel reads while the one before it still runs: it must have been written launches before, as a step's
 * lists are. It comes from the level-2 cache, since a multiprocessor's own might have what stood there before.
 */
export function early(element: Tensor): i32 {
  'use gpu';
  return element.load({ cache: 'cg' })[0];
}
