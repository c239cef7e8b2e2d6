/** Values from one side to the other, in order, as they come. */
export class Channel<T> implements AsyncIterableIterator<T> {
  readonly #values: T[] = [];
  readonly #onTake: () => void;
  readonly #onLeave: () => void;
  #state: 'open' | 'ended' | { readonly error: unknown } = 'open';
  #waiting: PromiseWithResolvers<IteratorResult<T>> | undefined;

  /**
   * @param onTake called for each value that the reader has taken
   * @param onLeave called when the reader leaves before the end
   */
  constructor(onTake: () => void, onLeave: () => void) {
    this.#onTake = onTake;
    this.#onLeave = onLeave;
  }

  push(value: T): void {
    if (this.#state !== 'open') return;
    if (this.#waiting === undefined) {
      this.#values.push(value);
      return;
    }
    this.#waiting.resolve({ value, done: false });
    this.#waiting = undefined;
    this.#onTake();
  }

  /** What came before is still read. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#waiting?.resolve({ value: undefined, done: true });
  }

  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    this.#state = { error };
    this.#waiting?.reject(error);
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#values.length > 0) {
      const value = this.#values.shift() as T;
      this.#onTake();
      return Promise.resolve({ value, done: false });
    }
    if (this.#state === 'ended') return Promise.resolve({ value: undefined, done: true });
    if (this.#state !== 'open') {
      const { error } = this.#state;
      this.#state = 'ended';
      return Promise.reject(error);
    }
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  return(): Promise<IteratorResult<T>> {
    if (this.#state === 'open') {
      this.#state = 'ended';
      this.#onLeave();
    }
    this.#values.length = 0;
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
