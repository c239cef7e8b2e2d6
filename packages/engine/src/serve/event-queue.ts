import type { RoseError } from '../errors.ts';

/** Events from a callback, read one after the other; a failure overtakes whatever is still queued. */
export class EventQueue<T> {
  readonly #events: T[] = [];
  #waiting: { resolve: (event: T) => void; reject: (error: RoseError) => void } | undefined;
  #failure: RoseError | undefined;
  readonly #onFailure: ((error: RoseError) => void)[] = [];

  push(event: T): void {
    if (this.#waiting === undefined) {
      this.#events.push(event);
      return;
    }
    this.#waiting.resolve(event);
    this.#waiting = undefined;
  }

  fail(error: RoseError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    for (const reject of this.#onFailure) reject(error);
  }

  /** The next event. One reader at a time. */
  next(): Promise<T> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve(event);
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  /** Await other work, unless the queue has failed or fails first. */
  orFail<R>(start: () => Promise<R>): Promise<R> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#onFailure.push(reject);
      start().then(resolve, reject);
    });
  }
}
