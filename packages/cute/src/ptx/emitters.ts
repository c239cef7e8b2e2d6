import { CONTROL_EMITTERS } from './control.ts';
import { CONVERT_EMITTERS } from './convert.ts';
import { DEBUG_EMITTERS } from './debug.ts';
import type { EmitNode } from './emitter.ts';
import { MEMORY_EMITTERS } from './memory.ts';
import { SCALAR_EMITTERS } from './scalar.ts';
import { SYNC_EMITTERS } from './sync.ts';

/** How every operation is written; a family brings its own table. */
export const EMITTERS: Readonly<Record<string, EmitNode>> = {
  ...SCALAR_EMITTERS,
  ...CONVERT_EMITTERS,
  ...MEMORY_EMITTERS,
  ...CONTROL_EMITTERS,
  ...SYNC_EMITTERS,
  ...DEBUG_EMITTERS,
};
