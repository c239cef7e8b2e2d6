import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Contender } from './contender.ts';

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

const MILLISECONDS = 100;
const REPEATS = 3;

/**
 * The limits, measured in a process of their own: once at the start and again before each round, a second each, since
 * other load makes any one measurement too small. The best of all counts.
 */
export class LimitsMeter {
  readonly #threads: number;
  readonly #child = Contender.start(new URL('./limits.child.ts', import.meta.url));
  #best: MachineLimits | undefined;

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** Throws before the first measurement. */
  get best(): MachineLimits {
    if (!this.#best) throw new Error('the limits have not been measured yet');
    return this.#best;
  }

  async measure(): Promise<void> {
    const now = await this.#child.call<MachineLimits>('measure', this.#threads);
    const best = this.#best ?? now;
    this.#best = {
      threads: this.#threads,
      readBytesPerSecond: Math.max(best.readBytesPerSecond, now.readBytesPerSecond),
      wasmFlopsPerSecond: Math.max(best.wasmFlopsPerSecond, now.wasmFlopsPerSecond),
      hertz: Math.max(best.hertz, now.hertz),
    };
  }

  close(): void {
    this.#child.close();
  }
}

/** For that process. */
export async function measureLimits(threads: number): Promise<MachineLimits> {
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const url = new URL('./limits.worker.ts', import.meta.url);
  const workers = Array.from({ length: threads }, () => new Worker(url, { workerData: { shared } }));
  /** What each thread did in one try: they start together. */
  const attempt = (what: LimitsOrder['what']): Promise<number[]> => {
    shared[0] = 0;
    const replies = workers.map(async (worker) => {
      worker.postMessage({ what, milliseconds: MILLISECONDS, threads } satisfies LimitsOrder);
      const [reply] = (await once(worker, 'message')) as [LimitsReply];
      return reply.perSecond;
    });
    return Promise.all(replies);
  };
  const attempts = async (what: LimitsOrder['what']): Promise<number[][]> => {
    const all = [];
    for (let i = 0; i < REPEATS; i++) all.push(await attempt(what));
    return all;
  };
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const best = (tries: readonly number[][], thread: number): number => Math.max(...tries.map((rates) => rates[thread]));
  try {
    // Threads share the memory, so only a whole try counts; each has its own arithmetic, so its own best does.
    const reads = await attempts('read');
    const multiplies = await attempts('multiply');
    const clocks = await attempts('clock');
    return {
      threads,
      readBytesPerSecond: Math.max(...reads.map(sum)),
      wasmFlopsPerSecond: sum(workers.map((_, thread) => best(multiplies, thread))),
      hertz: sum(workers.map((_, thread) => best(clocks, thread))) / threads,
    };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
