import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { FromEngine, ToEngine, Transport } from './protocol.ts';

/** The way to an engine host: the transport, a word when the far end is gone, and a way to end it. */
export interface EngineLink extends Transport<ToEngine, FromEngine> {
  /** Calls back when the far end stops, asked to or not; the first reason is the one that counts. */
  onLost(lost: (reason: string) => void): void;
  /** Ends the far end, whatever it is doing. */
  terminate(): Promise<void>;
}

/** A process's last message: the fault that ends it. A thread's fault comes as an event of its own. */
export interface LastWord {
  readonly kind: 'fault';
  readonly reason: string;
}

/** More do not read faster. */
const MOST_READERS = 16;

const entry: URL = new URL(import.meta.url.endsWith('.ts') ? './host.worker.ts' : './host.worker.js', import.meta.url);

/** The environment of an engine's process, where nobody says otherwise. */
function defaults(): Readonly<Record<string, string>> {
  return {
    // Threads that read files: as many as it takes to read a checkpoint from the system's cache as fast as it can be copied.
    UV_THREADPOOL_SIZE: String(Math.min(MOST_READERS, Math.max(4, availableParallelism()))),
    // All of a kernel is on the GPU before the first step, which then waits for nothing.
    CUDA_MODULE_LOADING: 'EAGER',
  };
}

/** An engine in a worker thread of this process (library use). */
export function startWorker(): EngineLink {
  const worker = new Worker(entry, { name: 'rose engine' });
  return {
    post: (message) => worker.postMessage(message),
    listen: (receive) => void worker.on('message', receive),
    onLost: (lost) => {
      worker.on('error', (error) => lost(error instanceof Error ? error.message : String(error)));
      worker.on('exit', (code) => lost(`its thread ended with code ${code}`));
    },
    terminate: async () => void (await worker.terminate()),
  };
}

/** An engine in a process of its own, which a fault of the device can end without ending the server. */
export function startProcess(program: URL = entry): EngineLink {
  const child = fork(fileURLToPath(program), { serialization: 'advanced', env: { ...defaults(), ...process.env } });
  return {
    // What is sent to a process that has just ended is lost with it; that it has ended is told by `onLost`.
    post: (message) => void child.send(message, () => {}),
    listen: (receive) => {
      child.on('message', (message: FromEngine | LastWord) => {
        if (message.kind !== 'fault') receive(message);
      });
    },
    onLost: (lost) => {
      child.on('message', (message: FromEngine | LastWord) => {
        if (message.kind === 'fault') lost(message.reason);
      });
      child.on('error', (error) => lost(error.message));
      child.on('exit', (code, signal) => lost(`its process ended with ${signal ?? `code ${code}`}`));
    },
    terminate: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      // It heeds no other signal: those are for the server.
      child.kill('SIGKILL');
      await ended;
    },
  };
}
