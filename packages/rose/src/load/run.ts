import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from './random.ts';
import type { RequestRecord } from './record.ts';

/** When requests are sent. Open: at random times that wait for no answer. Closed: so many are always under way. */
export type Load =
  | { readonly kind: 'open'; readonly perSecond: number }
  | { readonly kind: 'closed'; readonly concurrency: number };

export interface RunOptions {
  readonly load: Load;
  readonly seed: number;
  /** Requests at most. */
  readonly requests: number;
  /** No request is scheduled after so long. */
  readonly milliseconds: number;
  readonly signal: AbortSignal;
  readonly onChange?: (progress: Progress) => void;
}

export interface Progress {
  readonly sent: number;
  readonly ended: number;
  readonly failed: number;
}

/** Sends request `i`, which was due at `scheduled`. */
export type Send = (i: number, scheduled: number) => Promise<RequestRecord>;

/** Runs a load to its end and returns what became of every request, in the order they were sent. */
export async function runLoad(send: Send, options: RunOptions): Promise<RequestRecord[]> {
  const { load, requests, milliseconds, signal } = options;
  const start = performance.now();
  const end = start + milliseconds;
  const records: RequestRecord[] = [];
  const progress = { sent: 0, ended: 0, failed: 0 };
  const run = async (scheduled: number): Promise<void> => {
    const i = progress.sent++;
    options.onChange?.(progress);
    const record = await send(i, scheduled);
    records[i] = record;
    progress.ended++;
    if (record.outcome.kind === 'failed') progress.failed++;
    options.onChange?.(progress);
  };
  if (load.kind === 'closed') {
    const worker = async (): Promise<void> => {
      while (progress.sent < requests && performance.now() < end && !signal.aborted) await run(performance.now());
    };
    await Promise.all(Array.from({ length: load.concurrency }, worker));
    return records;
  }
  const arrivals = poisson(options.seed, load.perSecond);
  const running: Promise<void>[] = [];
  let due = start + arrivals();
  while (progress.sent < requests && due < end && !signal.aborted) {
    await until(due, signal);
    if (signal.aborted) break;
    running.push(run(due));
    due += arrivals();
  }
  await Promise.all(running);
  return records;
}

/** An abort is no error: what was sent so far counts. Timers may be a millisecond early. */
async function until(due: number, signal: AbortSignal): Promise<void> {
  for (let wait = due - performance.now(); wait > 0 && !signal.aborted; wait = due - performance.now()) {
    await sleep(Math.ceil(wait), undefined, { signal }).catch(() => {});
  }
}

/** Milliseconds between arrivals that know nothing of each other. */
function poisson(seed: number, perSecond: number): () => number {
  const random = new Random(seed, -1);
  return () => (1000 / perSecond) * random.exponential();
}
