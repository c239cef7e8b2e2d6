import { execute, skip } from '../commands/index.ts';
import type { ThreadArena } from '../commands/thread.ts';
import { LIST, type Barrier } from './barrier.ts';

/**
 * Walk the command list: this thread's share of each command, then meet the others. After a failure anywhere the rest is
 * skipped, in step.
 */
export function runList(barrier: Barrier, arena: ThreadArena): void {
  const end = LIST + barrier.length;
  for (let at = LIST; at < end;) {
    if (barrier.failed) at = skip(barrier.words, at);
    else {
      try {
        at = execute(barrier.words, at, arena);
      } catch (thrown) {
        barrier.fail(thrown);
        at = skip(barrier.words, at);
      }
    }
    barrier.meet();
  }
}
