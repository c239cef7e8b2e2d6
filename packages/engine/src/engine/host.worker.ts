import { parentPort } from 'node:worker_threads';
import { EngineHost } from './host.ts';
import type { FromEngine, ToEngine, Transport } from './protocol.ts';

/** Entry of the engine's worker thread or child process: whichever started it, the messages are the same. */
void new EngineHost(parentPort === null ? processTransport() : workerTransport(parentPort)).run();

function workerTransport(port: NonNullable<typeof parentPort>): Transport<FromEngine, ToEngine> {
  return {
    post: (message) => port.postMessage(message),
    listen: (receive) => void port.on('message', receive),
  };
}

function processTransport(): Transport<FromEngine, ToEngine> {
  // An engine whose server is gone has nobody to work for.
  process.on('disconnect', () => process.exit());
  return {
    post: (message) => void process.send!(message),
    listen: (receive) => void process.on('message', (message) => receive(message as ToEngine)),
  };
}
