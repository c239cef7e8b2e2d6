import { Worker } from 'node:worker_threads';
import { CompileError, CudaError, type Image, type Program } from '@rose/cuda';
import type { CompilerThread, LibraryKernel } from './compiler-pool.ts';

const WORKER = new URL(
  import.meta.url.endsWith('.ts') ? './compiler.worker.ts' : './compiler.worker.js',
  import.meta.url,
);

/** What a thread is for. */
export interface CompilerData {
  /** The GPU's number among those that the driver shows, and what kernels are compiled for. */
  readonly ordinal: number;
  readonly arch: string;
  /** See sourceVersion. */
  readonly version: string;
}

export type CompilerJob =
  | { readonly kind: 'trace'; readonly kernel: LibraryKernel }
  | { readonly kind: 'compile'; readonly program: Program }
  | { readonly kind: 'end' };

/** Errors that a message does not carry as what they are. */
export type ToldError =
  | { readonly kind: 'compile'; readonly what: string; readonly log: string }
  | { readonly kind: 'driver'; readonly call: string; readonly code: number; readonly detail: string }
  | { readonly kind: 'other'; readonly error: unknown };

export type CompilerAnswer =
  | { readonly kind: 'made'; readonly made: Program | Image }
  | { readonly kind: 'failed'; readonly error: ToldError };

interface Pending {
  readonly job: CompilerJob;
  readonly resolve: (made: Program | Image) => void;
  readonly reject: (error: unknown) => void;
}

/** A worker thread that traces the library's kernels and compiles for a GPU of this process. */
export class WorkerThread implements CompilerThread {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  #pending: Pending | undefined;
  /** Why it can do nothing more. */
  #gone: Error | undefined;

  constructor(workerData: CompilerData) {
    this.#worker = new Worker(WORKER, { workerData, name: 'rose compiler' });
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    this.#worker.on('message', (answer: CompilerAnswer) => {
      const pending = this.#pending;
      this.#pending = undefined;
      if (answer.kind === 'made') pending?.resolve(answer.made);
      else pending?.reject(errorOf(answer.error, pending.job));
    });
    this.#worker.on('error', (error) => this.#fail(error as Error));
    this.#worker.on('exit', (code) => this.#fail(new Error(`a thread that compiles kernels ended with ${code}`)));
  }

  trace(kernel: LibraryKernel): Promise<Program> {
    return this.#ask({ kind: 'trace', kernel }) as Promise<Program>;
  }

  compile(program: Program): Promise<Image> {
    return this.#ask({ kind: 'compile', program }) as Promise<Image>;
  }

  async close(): Promise<void> {
    this.#worker.postMessage({ kind: 'end' } satisfies CompilerJob);
    await this.#ended;
  }

  #ask(job: CompilerJob): Promise<Program | Image> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#pending = { job, resolve, reject };
      this.#worker.postMessage(job);
    });
  }

  #fail(error: Error): void {
    this.#gone ??= error;
    this.#pending?.reject(this.#gone);
    this.#pending = undefined;
  }
}

function errorOf(told: ToldError, job: CompilerJob): unknown {
  if (told.kind === 'compile')
    return new CompileError(told.what, job.kind === 'compile' ? job.program.ptx : '', told.log);
  if (told.kind === 'driver') return new CudaError(told.call, told.code, told.detail);
  return told.error;
}
