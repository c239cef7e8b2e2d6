import { execute, skip } from '../commands/index.ts';
import type { ThreadArena } from '../commands/thread.ts';
import { LIST, type Barrier } from './barrier.ts';

/**
 * Walk the command list: this thread's share of each command, then meet the others. After a failure anywhere the rest is
 * skipped, in step. Returns this thread's error.
 */
export function runList(barrier: Barrier, arena: ThreadArena): unknown {
  let error: unknown;
  const end = LIST + barrier.length;
  for (let at = LIST; at < end;) {
    if (barrier.failed) at = skip(barrier.words, at);
    else {
      try {
        at = execute(barrier.words, at, arena);
      } catch (thrown) {
        error = thrown;
        barrier.fail();
        at = skip(barrier.words, at);
      }
    }
    barrier.meet();
  }
  return error;
}
