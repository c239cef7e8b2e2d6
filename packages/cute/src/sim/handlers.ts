import { ACCESS_HANDLERS } from './access.ts';
import { BARRIER_HANDLERS } from './barriers.ts';
import { CANCEL_HANDLERS } from './cancel.ts';
import { COPY_HANDLERS } from './copies.ts';
import { DEBUG_HANDLERS } from './debug.ts';
import { MAP_HANDLERS } from './map-ops.ts';
import { MATRIX_HANDLERS } from './matrix.ts';
import { MBARRIER_HANDLERS } from './mbarriers.ts';
import type { Handler } from './program.ts';
import { TCGEN05_HANDLERS } from './tcgen05.ts';
import { TMA_HANDLERS } from './tma.ts';
import { TMEM_HANDLERS } from './tmem.ts';
import { WARP_HANDLERS } from './warp-ops.ts';
import { WGMMA_HANDLERS } from './wgmma.ts';

/** How a warp executes every operation that is not lane-wise and not control flow. */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  ...ACCESS_HANDLERS,
  ...WARP_HANDLERS,
  ...BARRIER_HANDLERS,
  ...MBARRIER_HANDLERS,
  ...COPY_HANDLERS,
  ...CANCEL_HANDLERS,
  ...TMA_HANDLERS,
  ...MAP_HANDLERS,
  ...MATRIX_HANDLERS,
  ...WGMMA_HANDLERS,
  ...TMEM_HANDLERS,
  ...TCGEN05_HANDLERS,
  ...DEBUG_HANDLERS,
};
