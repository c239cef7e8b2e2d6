import type { Context } from './context.ts';
import { CudaUsageError } from './errors.ts';

/** What kinds of object of the driver a context owns. */
export type ResourceKind =
  | 'device memory'
  | 'pinned memory'
  | 'pool memory'
  | 'imported memory'
  | 'memory pool'
  | 'stream'
  | 'event'
  | 'graph'
  | 'executable graph'
  | 'module'
  | 'cuBLASLt handle'
  | 'cuBLASLt product';

/**
 * An object of the driver that one owner frees, with `using` or by `[Symbol.dispose]()`; twice does no harm. What is
 * still alive when its context goes is freed by the context, youngest first.
 */
export abstract class Resource implements Disposable {
  readonly context: Context;
  readonly kind: ResourceKind;
  #handle: number;

  constructor(context: Context, kind: ResourceKind, handle: number) {
    this.context = context;
    this.kind = kind;
    this.#handle = handle;
    context.adopt(this);
  }

  /** The driver's handle or the address. Throws CudaUsageError after disposal. */
  get handle(): number {
    if (this.#handle === 0) throw new CudaUsageError(`this ${this.kind} was disposed already and cannot be used`);
    return this.#handle;
  }

  get disposed(): boolean {
    return this.#handle === 0;
  }

  /** For the rest of a construction: where `build` throws, what there is already is disposed. */
  protected orDispose<T>(build: () => T): T {
    try {
      return build();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The handle, for another owner: the object stays, and is this one's no more. */
  protected surrender(): number {
    const { handle } = this;
    this.#handle = 0;
    this.context.disown(this);
    return handle;
  }

  /** Frees the object in the driver. Called once. */
  protected abstract release(handle: number): void;

  [Symbol.dispose](): void {
    const handle = this.#handle;
    if (handle === 0) return;
    this.#handle = 0;
    this.context.disown(this);
    // A lost device refuses every call, and the driver frees what it had when the process ends.
    if (!this.context.lost) this.release(handle);
  }
}
