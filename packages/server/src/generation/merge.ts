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
    pending.set(
      source,
      iterators[source].next().then((result) => ({ source, result })),
    );
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
    await Promise.allSettled(pending.values());
  }
}
