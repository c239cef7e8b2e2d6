import type { Architecture } from './architecture.ts';
import { bertArchitectures } from './bert.ts';
import { llamaArchitectures } from './llama.ts';

/** Every architecture Rose reads. */
export const architectures: readonly Architecture[] = [...llamaArchitectures, ...bertArchitectures];
