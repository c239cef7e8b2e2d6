import { NO_SCRATCH, type ThreadArena } from '../commands/thread.ts';
import { instantiate } from '../kernels/instance.ts';
import type { Barrier } from './barrier.ts';
import type { TeamMessage } from './messages.ts';

/** An arena as one thread sees it. */
export function threadArena(
  { memory, module, family }: Extract<TeamMessage, { kind: 'arena' }>,
  thread: number,
  threads: number,
  barrier: Barrier,
): ThreadArena {
  return {
    kernels: instantiate(module, memory),
    family,
    i32: new Int32Array(memory.buffer),
    u8: new Uint8Array(memory.buffer),
    scratch: NO_SCRATCH,
    thread,
    threads,
    take: () => barrier.take(),
  };
}
