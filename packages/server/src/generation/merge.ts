type Outcome<T> = { readonly source: number; readonly result: IteratorResult<T> } | { readonly error: unknown };

/**
 * The events of several sources as they come, each with the number of its source. What a source brings waits, one event
 * of each, until it is read.
 * @param cancel called when the reader stops or a source fails, to end the other sources
 * @param atOnce so many sources are read at a time; the next one begins when one ends
 */
export async function* merge<T>(
  sources: readonly AsyncIterable<T>[],
  cancel: () => void,
  atOnce: number = Infinity,
): AsyncGenerator<{ readonly source: number; readonly value: T }> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const ready: Outcome<T>[] = [];
  let wake: (() => void) | undefined;
  let started = 0;
  let open = 0;
  const arrive = (outcome: Outcome<T>): void => {
    ready.push(outcome);
    wake?.();
  };
  const pull = (source: number): void => {
    iterators[source].next().then(
      (result) => arrive({ source, result }),
      (error: unknown) => arrive({ error }),
    );
  };
  const start = (): void => {
    for (; started < iterators.length && open < atOnce; open++) pull(started++);
  };
  start();
  try {
    while (open > 0) {
      const outcome = ready.shift();
      if (outcome === undefined) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      if ('error' in outcome) throw outcome.error;
      const { source, result } = outcome;
      if (result.done === true) {
        open--;
        start();
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
