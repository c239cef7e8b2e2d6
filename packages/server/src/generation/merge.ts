/**
 * The events of several sources as they come, each with the number of its source.
 * @param cancel called when the reader stops or a source fails, to end the other sources
 */
export async function* merge<T>(
  sources: readonly AsyncIterable<T>[],
  cancel: () => void,
): AsyncGenerator<{ readonly source: number; readonly value: T }> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const pending = new Map<number, Promise<{ source: number; result: IteratorResult<T> }>>();
  const pull = (source: number): void => {
    const next = iterators[source].next().then((result) => ({ source, result }));
    // It may fail while the reader is busy with another source's value: the error is taken when the reader is back.
    next.catch(() => undefined);
    pending.set(source, next);
  };
  iterators.forEach((_, source) => pull(source));
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values());
      if (result.done === true) {
        pending.delete(source);
        continue;
      }
      pull(source);
      yield { source, value: result.value };
    }
  } finally {
    cancel();
    // A source that waits at a `yield` learns of its end only this way; the others answer after their pending value.
    await Promise.allSettled(iterators.map(async (iterator) => iterator.return?.()));
  }
}
