import type { ModelResponse } from '../triton/model.ts';

/** Has nothing answered before what was asked earlier. */
export class InOrder {
  #previous: Promise<unknown> = Promise.resolve();

  /** @param responses of the request that comes next */
  async *after(responses: AsyncIterable<ModelResponse>): AsyncIterable<ModelResponse> {
    const before = this.#previous;
    const own = Promise.withResolvers<void>();
    this.#previous = own.promise;
    const iterator = responses[Symbol.asyncIterator]();
    try {
      const first = iterator.next();
      await Promise.allSettled([first, before]);
      for (let next = await first; next.done !== true; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
      own.resolve();
    }
  }
}
