import { parentPort } from 'node:worker_threads';
import { RoseError } from '../errors.ts';
import { EngineHost } from './host.ts';
import type { LastWord } from './link.ts';
import type { FromEngine, ToEngine, Transport } from './protocol.ts';

/** Entry of the engine's worker thread or child process: whichever started it, the messages are the same. */
if (parentPort === null) runProcess();
else void new EngineHost(workerTransport(parentPort)).run();

function workerTransport(port: NonNullable<typeof parentPort>): Transport<FromEngine, ToEngine> {
  return {
    post: (message) => port.postMessage(message),
    listen: (receive) => void port.on('message', receive),
  };
}

function runProcess(): void {
  process.title = 'rose engine';
  // A terminal and a service manager signal the whole group of processes. The server hears it too, lets its requests
  // end and then ends this process.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  // An engine whose server is gone has nobody to work for.
  process.on('disconnect', () => process.exit());
  const host = new EngineHost({
    post: (message) => void process.send!(message),
    listen: (receive) => void process.on('message', (message) => receive(message as ToEngine)),
  });
  host.run().catch((error: unknown) => {
    // What a device did is said in its message; anything else is a fault of ours.
    if (!(error instanceof RoseError)) console.error(error);
    const reason = error instanceof Error ? error.message : String(error);
    // No orderly exit: the driver would wait for a kernel that does not end.
    process.send!({ kind: 'fault', reason } satisfies LastWord, () => process.kill(process.pid, 'SIGKILL'));
  });
}
