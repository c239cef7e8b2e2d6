import { Worker } from 'node:worker_threads';
import type { Program } from '@rose/cute';

const WORKER = new URL(
  import.meta.url.endsWith('.ts') ? './compile.worker.ts' : './compile.worker.js',
  import.meta.url,
);

/** Threads that compile programs for a GPU into the caches on disk, where the thread that asks finds them. */
export class CompilerPool implements Disposable {
  readonly #alive: Set<Worker>;

  constructor(ordinal: number, threads: number) {
    this.#alive = new Set(
      Array.from({ length: threads }, () => new Worker(WORKER, { workerData: ordinal, name: 'rose compiler' })),
    );
    for (const worker of this.#alive) {
      worker.unref();
      // What keeps a thread from compiling keeps the asking one, too, which says so.
      worker.on('error', () => {});
      worker.on('exit', () => this.#alive.delete(worker));
    }
  }

  /** Resolves when all are compiled or refused. What goes wrong here happens again to the one who uses the program. */
  async compile(programs: readonly Program[]): Promise<void> {
    const waiting = [...programs];
    await Promise.all(
      [...this.#alive].map(async (worker) => {
        while (this.#alive.has(worker)) {
          const program = waiting.shift();
          if (!program) return;
          await compileIn(worker, program);
        }
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const worker of this.#alive) void worker.terminate();
  }
}

/** Resolves when the thread has answered, or has ended. */
function compileIn(worker: Worker, program: Program): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      worker.off('message', done);
      worker.off('exit', done);
      worker.unref();
      resolve();
    };
    worker.on('message', done);
    worker.on('exit', done);
    // The process stays while it is waited for.
    worker.ref();
    worker.postMessage(program);
  });
}
