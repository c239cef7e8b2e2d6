import type { Sequence } from './sequence.ts';
import type { Tenants } from './tenants.ts';

/** Rows that one tenant may be served more than another before it has to give way: a turn costs less than that. */
const TURN_ROWS = 256;
/** Turns that a sequence gives at most, so that it comes to an end whatever happens. */
const MOST_TURNS = 8;

/**
 * Which running sequence gives its place to `next`, which waits and finds no room: one of lower priority, or one of a
 * tenant that has more places and was served more by `TURN_ROWS`. So tenants share a busy engine by rows, and nobody
 * waits for the end of another's long answers.
 * @param running in their order; the last one that may goes first
 * @returns its index, or -1
 */
export function whoGivesWay(running: readonly Sequence[], next: Sequence, tenants: Tenants): number {
  const places = new Map<string, number>();
  for (const { tenant } of running) places.set(tenant, (places.get(tenant) ?? 0) + 1);
  const own = places.get(next.tenant) ?? 0;
  const most = tenants.served(next.tenant) + TURN_ROWS;
  for (let i = running.length - 1; i >= 0; i--) {
    const { tenant, rank, turns } = running[i];
    if (turns >= MOST_TURNS || next.priority > rank) continue;
    // The rank is the priority, or better where it had to wait: who has waited is not sent back for who has not.
    if (next.priority < rank) return i;
    if (tenant !== next.tenant && tenants.served(tenant) >= most && places.get(tenant)! > own) return i;
  }
  return -1;
}
