import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** What the machine can do at most, measured on as many threads as the engines have. */
export interface MachineLimits {
  readonly threads: number;
  /** Bytes a second of all threads together, each reading 256 MB of its own over and over. */
  readonly readBytesPerSecond: number;
  /** float32 operations a second (a multiply-add is two) of WebAssembly with 256-bit vectors where V8 makes them. */
  readonly wasmFlopsPerSecond: number;
  /** Cycles a second of one thread, all of them busy: dependent additions counted. */
  readonly hertz: number;
}

export interface LimitsOrder {
  readonly what: 'read' | 'multiply' | 'clock';
  readonly milliseconds: number;
  readonly threads: number;
}

export interface LimitsReply {
  readonly perSecond: number;
}

const MILLISECONDS = 300;
const REPEATS = 3;

/** Takes some three seconds. The best of three, since others may disturb. */
export async function measureLimits(threads: number): Promise<MachineLimits> {
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const url = new URL('./limits.worker.ts', import.meta.url);
  const workers = Array.from({ length: threads }, () => new Worker(url, { workerData: { shared } }));
  const measure = async (what: LimitsOrder['what']): Promise<number> => {
    let best = 0;
    for (let i = 0; i < REPEATS; i++) {
      shared[0] = 0;
      const replies = workers.map(async (worker) => {
        worker.postMessage({ what, milliseconds: MILLISECONDS, threads } satisfies LimitsOrder);
        const [reply] = (await once(worker, 'message')) as [LimitsReply];
        return reply.perSecond;
      });
      const sum = (await Promise.all(replies)).reduce((a, b) => a + b, 0);
      best = Math.max(best, sum);
    }
    return best;
  };
  try {
    return {
      threads,
      readBytesPerSecond: await measure('read'),
      wasmFlopsPerSecond: await measure('multiply'),
      hertz: (await measure('clock')) / threads,
    };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
