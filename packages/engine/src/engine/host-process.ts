import { RoseError } from '../errors.ts';
import type { openDevice } from '../device/open.ts';
import { EngineHost } from './host.ts';
import type { LastWord } from './link.ts';
import type { ToEngine } from './protocol.ts';

/** The engine of a process that `startProcess` started. @param open opens devices, where they are not the usual ones */
export function runProcess(open?: typeof openDevice): void {
  process.title = 'rose engine';
  // A terminal and a service manager signal the whole group of processes. The server hears it too, lets its requests
  // end and then ends this process.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  // An engine whose server is gone has nobody to work for.
  process.on('disconnect', () => process.exit());
  const transport = {
    post: (message: object) => void process.send!(message),
    listen: (receive: (message: ToEngine) => void) =>
      void process.on('message', (message) => receive(message as ToEngine)),
  };
  new EngineHost(transport, open).run().catch((error: unknown) => {
    // What a device did is said in its message; anything else is a fault of ours.
    if (!(error instanceof RoseError)) console.error(error);
    const reason = error instanceof Error ? error.message : String(error);
    // No orderly exit: the driver would wait for a kernel that does not end.
    process.send!({ kind: 'fault', reason } satisfies LastWord, () => process.kill(process.pid, 'SIGKILL'));
  });
}
