import { gridDependencyWait, gridLaunchDependents } from '../atoms/cluster.ts';
import { emit } from '../atoms/record.ts';

/** A barrier of some of a block's warps. Number 0 is that of the whole block. */
export class NamedBarrier {
  readonly id: number;
  readonly threads: number;

  /**
   * @param id 1 to 15
   * @param threads how many arrive or wait, a multiple of 32
   */
  constructor(id: number, threads: number) {
    if (!Number.isInteger(id) || id < 1 || id > 15)
      throw new RangeError(`a named barrier has number 1 to 15, not ${id}`);
    if (threads % 32 !== 0 || threads < 32 || threads > 1024) {
      throw new RangeError(`a named barrier counts whole warps, 32 to 1024 threads, not ${threads}`);
    }
    this.id = id;
    this.threads = threads;
  }

  /** Arrives and waits for the others. */
  sync(): void {
    emit('barrier', { attributes: { id: this.id, count: this.threads } });
  }

  /** Arrives and goes on. */
  arrive(): void {
    emit('barrier_arrive', { attributes: { id: this.id, count: this.threads } });
  }
}

/**
 * A kernel that overlaps the one before it in the stream: `prologue` touches nothing that other kernels write; then it
 * waits for them. `after` runs next, and the following kernel may start where it calls `release`.
 */
export function afterPrevious(prologue: () => void, after: (release: () => void) => void): void {
  prologue();
  gridDependencyWait();
  after(gridLaunchDependents);
}
