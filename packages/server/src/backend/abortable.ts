/**
 * The same promise, unless the signal is aborted first: then it rejects with the signal's reason.
 * @param late called with what the promise resolves to when nobody waits for it any more
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal, late?: (value: T) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- whoever aborts says why
      reject(signal.reason);
      promise.then(late, () => {});
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
