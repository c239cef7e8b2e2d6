import type { RoseError } from '../errors.ts';

/**
 * Events from a callback, read one after the other; a failure overtakes whatever is still queued. A reader that is slow
 * finds everything later: what waits for it is at most what its request can bring.
 */
export class EventQueue<T> {
  /** Those from `#read` on are still to be read; taking from the front of a long array would move all of it. */
  #events: T[] = [];
  #read = 0;
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
    if (this.#read < this.#events.length) {
      const event = this.#events[this.#read++];
      // What was read is let go of once it is the larger half, so that a long queue costs each event the same.
      if (2 * this.#read >= this.#events.length) {
        this.#events = this.#events.slice(this.#read);
        this.#read = 0;
      }
      return Promise.resolve(event);
    }
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
