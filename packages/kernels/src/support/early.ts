import type { i32, Tensor } from '@rose/cute';

/**
 * An element that a kernel reads before it waits for those before it. These may have let it start before they waited themselves
 * (norms, products of few rows), so it must have been written before a kernel that waits first (`embedding`, behind `unpack`), as
 * a step's lists are. It comes from the level-2 cache, since a multiprocessor's own might have what stood there before.
 */
export function early(element: Tensor): i32 {
  'use gpu';
  return element.load({ cache: 'cg' })[0];
}
