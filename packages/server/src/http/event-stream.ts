import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

export interface EventStreamOptions {
  readonly contentType: string;
  readonly signal: AbortSignal;
  /** Text of the event that reports an error after the first event. */
  readonly onError: (error: unknown) => string;
}

/**
 * Reply with server-sent events. Nothing is sent before the first event is there, so that an error until then becomes a
 * reply with a status of its own: this rejects with it.
 * @param events the data of each event; returned to when the connection closes
 */
export async function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<string>,
  { contentType, signal, onError }: EventStreamOptions,
): Promise<void> {
  const iterator = events[Symbol.asyncIterator]();
  let next = await iterator.next();
  reply.hijack();
  const { raw } = reply;
  // A proxy that gathered events before passing them on would undo the streaming.
  raw.writeHead(200, {
    'content-type': contentType,
    'cache-control': 'no-cache',
    'x-accel-buffering': 'no',
  });
  try {
    while (next.done !== true && !signal.aborted) {
      await write(raw, next.value);
      next = await iterator.next();
    }
  } catch (error) {
    if (!signal.aborted) await write(raw, onError(error));
  } finally {
    await iterator.return?.();
    raw.end();
  }
}

/** Waits until a slow client has taken what it was sent: at most one event is ahead of the socket's buffer. */
async function write(raw: ServerResponse, data: string): Promise<void> {
  if (raw.write(Buffer.from(`data: ${data}\n\n`)) || raw.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      raw.off('drain', done);
      raw.off('close', done);
      resolve();
    };
    raw.on('drain', done);
    raw.on('close', done);
  });
}
