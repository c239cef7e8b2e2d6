import { constants } from 'node:os';

export type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';
const SIGNALS: readonly StopSignal[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Copies of one signal arrive within this time: a terminal and a launcher, or a service manager and a launcher, both send it. */
const COPY_MS = 300;

/** Calls `handler` at each request to stop, once for copies of the same one. Returns how to leave off. */
export function onStop(handler: (signal: StopSignal) => void): () => void {
  let last = -Infinity;
  const listener = (signal: StopSignal): void => {
    const now = performance.now();
    const copy = now - last < COPY_MS;
    last = now;
    if (!copy) handler(signal);
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return () => {
    for (const signal of SIGNALS) process.off(signal, listener);
  };
}

/** What a shell reports for a process that this signal ended. */
export function exitCodeOfSignal(signal: StopSignal): number {
  return 128 + constants.signals[signal];
}
