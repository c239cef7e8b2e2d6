import { ACCESS_HANDLERS } from './access.ts';
import { BARRIER_HANDLERS } from './barriers.ts';
import { DEBUG_HANDLERS } from './debug.ts';
import type { Handler } from './program.ts';
import { WARP_HANDLERS } from './warp-ops.ts';

/** How a warp executes every operation that is not lane-wise and not control flow. */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  ...ACCESS_HANDLERS,
  ...WARP_HANDLERS,
  ...BARRIER_HANDLERS,
  ...DEBUG_HANDLERS,
};
