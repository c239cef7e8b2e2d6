/**
 * Loaded into every process of a server under soak (`NODE_OPTIONS=--import`): each thread that has an event loop collects
 * its garbage now and then, and writes down what is left. Resident memory alone says little about a leak: heaps of
 * a dozen threads grow and shrink as their collectors see fit.
 */
import { appendFileSync } from 'node:fs';
import { isMainThread, threadId } from 'node:worker_threads';

/** Where the samples go, a line of JSON each; undefined in processes that are not under soak. */
export const LIVE_FILE = 'ROSE_SOAK_LIVE';
const EVERY_MS = 15_000;

export interface LiveSample {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly process: 'server' | 'engine';
  readonly thread: number;
  /** Bytes after a full collection: of objects, and of memory outside that they hold. */
  readonly heap: number;
  readonly external: number;
}

const file = process.env[LIVE_FILE];
// The launcher has nothing to do with requests.
if (file !== undefined && globalThis.gc !== undefined && (!isMainThread || process.execArgv.length > 0)) {
  setInterval(() => {
    globalThis.gc!();
    const { heapUsed, external } = process.memoryUsage();
    const name = process.title === 'rose engine' ? 'engine' : 'server';
    const sample: LiveSample = { at: Date.now(), process: name, thread: threadId, heap: heapUsed, external };
    appendFileSync(file, `${JSON.stringify(sample)}\n`);
  }, EVERY_MS).unref();
}
