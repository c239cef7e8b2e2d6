import { ASYNC_EMITTERS } from './async.ts';
import { CLUSTER_EMITTERS } from './cluster.ts';
import { CONTROL_EMITTERS } from './control.ts';
import { CONVERT_EMITTERS } from './convert.ts';
import { DEBUG_EMITTERS } from './debug.ts';
import type { EmitNode } from './emitter.ts';
import { MEMORY_EMITTERS } from './memory.ts';
import { SCALAR_EMITTERS } from './scalar.ts';
import { MATRIX_EMITTERS } from './matrix.ts';
import { SYNC_EMITTERS } from './sync.ts';
import { TCGEN05_EMITTERS } from './tcgen05.ts';
import { TMA_EMITTERS } from './tma.ts';
import { WGMMA_EMITTERS } from './wgmma.ts';

/** How every operation is written; a family brings its own table. */
export const EMITTERS: Readonly<Record<string, EmitNode>> = {
  ...SCALAR_EMITTERS,
  ...CONVERT_EMITTERS,
  ...MEMORY_EMITTERS,
  ...CONTROL_EMITTERS,
  ...SYNC_EMITTERS,
  ...DEBUG_EMITTERS,
  ...ASYNC_EMITTERS,
  ...TMA_EMITTERS,
  ...CLUSTER_EMITTERS,
  ...MATRIX_EMITTERS,
  ...WGMMA_EMITTERS,
  ...TCGEN05_EMITTERS,
};
