import { Worker } from 'node:worker_threads';
import type { TileFamily } from '../api.ts';
import type { Scratch, ThreadArena } from '../commands/thread.ts';
import { Barrier, CONTROL_WORDS, LIST } from './barrier.ts';
import type { TeamMessage, WorkerData } from './messages.ts';
import { runList } from './run.ts';
import { threadArena } from './thread-arena.ts';

const entry: URL = new URL(import.meta.url.endsWith('.ts') ? './team.worker.ts' : './team.worker.js', import.meta.url);

/** The threads that compute: the caller's own and `threads - 1` workers, all walking the same command list. */
export class Team {
  readonly threads: number;
  readonly barrier: Barrier;
  readonly #workers: Worker[] = [];
  readonly #arenas = new Map<number, ThreadArena>();
  #nextArena = 1;
  /** Why this team will never run again. */
  #failure: string | undefined;
  #closed = false;

  private constructor(threads: number, control: SharedArrayBuffer) {
    this.threads = threads;
    this.barrier = new Barrier(control, threads);
  }

  /** A team of the caller's thread alone. */
  static solo(): Team {
    return new Team(1, new SharedArrayBuffer(CONTROL_WORDS * 4));
  }

  static async start(threads: number): Promise<Team> {
    const control = new SharedArrayBuffer(CONTROL_WORDS * 4);
    const team = new Team(threads, control);
    for (let thread = 1; thread < threads; thread++) {
      const workerData: WorkerData = { control, thread, threads };
      // Flags of the main thread, such as those of `node --eval`, are not for workers.
      team.#workers.push(new Worker(entry, { name: `rose compute ${thread}`, workerData, execArgv: [] }));
    }
    try {
      await Promise.all(team.#workers.map(ready));
    } catch (error) {
      await team.close();
      throw error;
    }
    team.#workers.forEach((worker, i) => {
      worker.on('error', (error) => (team.#failure ??= `compute thread ${i + 1} failed: ${String(error)}`));
      worker.on('exit', () => (team.#failure ??= `compute thread ${i + 1} has ended`));
      // An idle team must not keep a process alive.
      worker.unref();
    });
    return team;
  }

  addArena(memory: WebAssembly.Memory, module: WebAssembly.Module, family: TileFamily): number {
    this.#check();
    const arena = this.#nextArena++;
    const message: TeamMessage = { kind: 'arena', arena, memory, module, family };
    this.#arenas.set(arena, threadArena(message, 0, this.threads, this.barrier));
    this.#tell(message);
    return arena;
  }

  setScratch(arena: number, scratch: readonly Scratch[]): void {
    this.arena(arena).scratch = scratch[0];
    this.#tell({ kind: 'scratch', arena, scratch });
  }

  dropArena(arena: number): void {
    this.#arenas.delete(arena);
    this.#tell({ kind: 'drop', arena });
  }

  /** This thread's view of an arena. @throws Error if it has been closed */
  arena(arena: number): ThreadArena {
    const view = this.#arenas.get(arena);
    if (view === undefined) throw new Error('the arena is closed');
    return view;
  }

  /** Execute commands that were encoded to `list`. @throws Error if any thread failed, with its reason */
  run(arena: number, list: Int32Array, words: number): void {
    this.#check();
    const view = this.arena(arena);
    if (words === 0) return;
    this.barrier.words.set(list.subarray(0, words), LIST);
    this.barrier.begin(arena, words);
    try {
      runList(this.barrier, view);
    } catch (error) {
      // The threads are out of step for good.
      this.#failure = (error as Error).message;
      throw error;
    }
    if (this.barrier.failed) throw new Error(this.barrier.reason);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#arenas.clear();
    this.barrier.stop();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #check(): void {
    if (this.#closed) throw new Error('the CPU device is closed');
    if (this.#failure !== undefined) throw new Error(`the CPU device has failed: ${this.#failure}`);
  }

  #tell(message: TeamMessage): void {
    for (const worker of this.#workers) worker.postMessage(message);
  }
}

/** A worker's first message says that it waits for runs. */
function ready(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a compute thread ended at its start with code ${code}`)));
  });
}
