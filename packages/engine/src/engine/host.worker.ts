import { parentPort } from 'node:worker_threads';
import { runProcess } from './host-process.ts';
import { EngineHost } from './host.ts';
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
