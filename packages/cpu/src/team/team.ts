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
  #failure: string | undefined;
  #closed = false;

  private constructor(threads: number, control: SharedArrayBuffer) {
    this.threads = threads;
    this.barrier = new Barrier(control, threads);
  }

  static async start(threads: number): Promise<Team> {
    const control = new SharedArrayBuffer(CONTROL_WORDS * 4);
    const team = new Team(threads, control);
    const ready: Promise<void>[] = [];
    for (let thread = 1; thread < threads; thread++) {
      const worker = new Worker(entry, {
        name: `rose compute ${thread}`,
        workerData: { control, thread, threads } satisfies WorkerData,
      });
      worker.on('error', (error) => (team.#failure = `compute thread ${thread} failed: ${String(error)}`));
      team.#workers.push(worker);
      ready.push(
        new Promise((resolve, reject) => {
          worker.once('message', () => resolve());
          worker.once('error', reject);
        }),
      );
      // An idle team must not keep a process alive.
      worker.unref();
    }
    await Promise.all(ready);
    return team;
  }

  addArena(memory: WebAssembly.Memory, module: WebAssembly.Module, family: TileFamily): number {
    const arena = this.#nextArena++;
    const message: TeamMessage = { kind: 'arena', arena, memory, module, family };
    this.#arenas.set(arena, threadArena(message, 0, this.threads));
    this.#tell(message);
    return arena;
  }

  setScratch(arena: number, scratch: readonly Scratch[]): void {
    this.#arenas.get(arena)!.scratch = scratch[0];
    this.#tell({ kind: 'scratch', arena, scratch });
  }

  dropArena(arena: number): void {
    this.#arenas.delete(arena);
    this.#tell({ kind: 'drop', arena });
  }

  /** This thread's view of an arena. */
  arena(arena: number): ThreadArena {
    return this.#arenas.get(arena)!;
  }

  /** Execute commands that were encoded to `list`. @throws Error if any thread failed */
  run(arena: number, list: Int32Array, words: number): void {
    if (this.#closed) throw new Error('the CPU device is closed');
    if (this.#failure !== undefined) throw new Error(this.#failure);
    this.barrier.words.set(list.subarray(0, words), LIST);
    this.barrier.begin(arena, words);
    const error = runList(this.barrier, this.#arenas.get(arena)!);
    if (error !== undefined) throw error;
    if (this.barrier.failed) throw new Error('a compute thread failed in this step');
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.barrier.stop();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #tell(message: TeamMessage): void {
    for (const worker of this.#workers) worker.postMessage(message);
  }
}
