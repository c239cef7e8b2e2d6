import type { FastifyReply } from 'fastify';

/** Aborts when the connection closes before the reply is complete: nobody waits for the answer any more. */
export function abortOnClose(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const { raw } = reply;
  if (raw.destroyed) controller.abort();
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
