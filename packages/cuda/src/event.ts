import type { Context } from './context.ts';
import { Out } from './out.ts';
import { Resource } from './resource.ts';
import { NOT_READY } from './results.ts';

const FLAG = { blockingSync: 1, disableTiming: 2, interprocess: 4 } as const;

export interface EventOptions {
  /** Keep the time at which it was recorded. Default false: recording and waiting are cheaper without. */
  readonly timing?: boolean;
  /** Waiting threads sleep and do not spin. */
  readonly blocking?: boolean;
  /** Other processes can open it (see ipc.ts). Excludes timing. */
  readonly interprocess?: boolean;
}

/** A point in a stream's order that the host and other streams can wait for. */
export class Event extends Resource {
  constructor(context: Context, options: EventOptions | { readonly imported: number } = {}) {
    super(context, 'event', 'imported' in options ? options.imported : create(context, options));
  }

  /** Whether the work before its last recording is done. True where it was never recorded. */
  query(): boolean {
    return !this.context.ask(NOT_READY, 'cuEventQuery', this.handle);
  }

  /** Waits in this thread. */
  synchronize(): void {
    this.context.run('cuEventSynchronize', this.handle);
  }

  /** Milliseconds from `start` to this event, to about half a microsecond. Both must have `timing` and be done. */
  since(start: Event): number {
    const out = new Out();
    this.context.run('cuEventElapsedTime', out.data, start.handle, this.handle);
    return out.f32;
  }

  protected override release(handle: number): void {
    this.context.run('cuEventDestroy_v2', handle);
  }
}

function create(context: Context, options: EventOptions): number {
  const flags =
    (options.blocking ? FLAG.blockingSync : 0) |
    (options.timing && !options.interprocess ? 0 : FLAG.disableTiming) |
    (options.interprocess ? FLAG.interprocess : 0);
  const out = new Out();
  context.run('cuEventCreate', out.data, flags);
  return out.word;
}
