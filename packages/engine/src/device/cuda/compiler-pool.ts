import type { Image, Program } from '@rose/cuda';
import type { Specialisation } from '@rose/kernels';

/** A kernel of the library, specialised, as other threads know it. */
export interface LibraryKernel {
  readonly name: string;
  readonly specialisation: Specialisation;
}

/** A thread that does one thing at a time. */
export interface CompilerThread {
  /** Run the kernel's function and write its PTX. */
  trace(kernel: LibraryKernel): Promise<Program>;
  compile(program: Program): Promise<Image>;
  /** Resolves when it has ended. */
  close(): Promise<void>;
}

/** What is to be made, and who is told of what was made. */
export interface Compilation {
  /** Programs that lack an image only, no two with the same PTX. */
  readonly programs: readonly Program[];
  /** Kernels that lack a program. */
  readonly kernels: readonly LibraryKernel[];
  /** Whether there is an image of this PTX. */
  isThere(ptx: string): boolean;
  /** Told of the program of kernels[index]. */
  onProgram(index: number, program: Program): void;
  /** Told of each image; whatever it has loaded is the receiver's. */
  onImage(program: Program, image: Image): void;
}

interface Job {
  /** Its place in the order of all, from which the error that counts is the first. */
  readonly at: number;
  readonly run: (thread: CompilerThread) => Promise<void>;
}

/**
 * Makes programs and images side by side. Kernels whose programs have the same PTX are compiled once. What is under way is
 * always waited for, since a compiler cannot be interrupted.
 */
export class CompilerPool {
  readonly #start: () => CompilerThread;
  readonly #most: number;

  /** @param most threads, at least 1 */
  constructor(start: () => CompilerThread, most: number) {
    this.#start = start;
    this.#most = most;
  }

  /**
   * Resolves to the number of threads. Rejects with the error of the job that comes first in the order of programs and
   * kernels, whichever thread met one first; or with the signal's reason.
   */
  async run(work: Compilation, signal: AbortSignal): Promise<number> {
    const count = Math.min(this.#most, work.programs.length + work.kernels.length);
    const threads = Array.from({ length: count }, () => this.#start());
    const jobs = new Jobs(work, signal);
    try {
      await Promise.all(threads.map((thread) => jobs.work(thread)));
    } finally {
      await Promise.all(threads.map((thread) => thread.close()));
    }
    if (jobs.failure !== undefined) throw jobs.failure.error;
    signal.throwIfAborted();
    return count;
  }
}

/** What is still to be done. Compiling goes first: it takes longest, and tracing finds more of it. */
class Jobs {
  failure: { readonly at: number; readonly error: unknown } | undefined;
  readonly #signal: AbortSignal;
  readonly #work: Compilation;
  readonly #compiles: Job[] = [];
  readonly #traces: Job[];
  readonly #begun = new Set<string>();
  /** Jobs under way, which may find more. */
  #running = 0;
  #waiting: (() => void)[] = [];

  constructor(work: Compilation, signal: AbortSignal) {
    this.#work = work;
    this.#signal = signal;
    const { programs, kernels } = work;
    programs.forEach((program, at) => this.#add(at, program));
    this.#traces = kernels.map((kernel, index): Job => {
      const at = programs.length + index;
      return {
        at,
        run: async (thread) => {
          const program = await thread.trace(kernel);
          work.onProgram(index, program);
          this.#add(at, program);
        },
      };
    });
  }

  /** Resolves when nothing is left to do and nothing under way may find more. */
  async work(thread: CompilerThread): Promise<void> {
    for (;;) {
      const job = this.#next();
      if (job === undefined) {
        if (this.#running === 0) return;
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
        continue;
      }
      this.#running++;
      try {
        await job.run(thread);
      } catch (error) {
        if (this.failure === undefined || job.at < this.failure.at) this.failure = { at: job.at, error };
      }
      this.#running--;
      for (const resolve of this.#waiting.splice(0)) resolve();
    }
  }

  #next(): Job | undefined {
    if (this.#signal.aborted) return undefined;
    return this.#take(this.#compiles) ?? this.#take(this.#traces);
  }

  /** The first job of a list; behind one that failed nothing is begun. */
  #take(jobs: Job[]): Job | undefined {
    const at = jobs.findIndex((job) => this.failure === undefined || job.at < this.failure.at);
    return at < 0 ? undefined : jobs.splice(at, 1)[0];
  }

  #add(at: number, program: Program): void {
    if (this.#begun.has(program.ptx) || this.#work.isThere(program.ptx)) return;
    this.#begun.add(program.ptx);
    this.#compiles.push({
      at,
      run: async (thread) => this.#work.onImage(program, await thread.compile(program)),
    });
  }
}
