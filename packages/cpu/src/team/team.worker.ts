import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { ThreadArena } from '../commands/thread.ts';
import { Barrier } from './barrier.ts';
import type { TeamMessage, WorkerData } from './messages.ts';
import { runList } from './run.ts';
import { threadArena } from './thread-arena.ts';

/** A compute thread: takes in arenas by message, then serves runs. It never returns to its event loop until the end. */
const { control, thread, threads } = workerData as WorkerData;
const barrier = new Barrier(control, threads);
const arenas = new Map<number, ThreadArena>();
parentPort!.postMessage('ready');

try {
  for (let epoch: number | undefined = 0; (epoch = barrier.next(epoch)) !== undefined;) {
    // Arenas arrive before the run that first uses them.
    for (let received; (received = receiveMessageOnPort(parentPort!)) !== undefined;)
      take(received.message as TeamMessage);
    runList(barrier, arenas.get(barrier.arena)!);
  }
} finally {
  // Asked to end or not: a run that begins after this must not wait for this thread.
  barrier.leave(thread);
}
parentPort!.close();

function take(message: TeamMessage): void {
  if (message.kind === 'arena') arenas.set(message.arena, threadArena(message, thread, threads, barrier));
  if (message.kind === 'scratch') arenas.get(message.arena)!.scratch = message.scratch[thread];
  if (message.kind === 'drop') arenas.delete(message.arena);
}
