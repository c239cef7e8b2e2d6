import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

export interface EventStreamOptions<T> {
  readonly contentType: string;
  readonly signal: AbortSignal;
  /** Text of an event. */
  readonly print: (event: T) => string;
  /** Text of an event that follows the last one; undefined: none does. */
  readonly last?: string;
  /** Text of the event that reports an error after the first event. */
  readonly onError: (error: unknown) => string;
}

/**
 * Reply with server-sent events. Nothing is sent before the first event is there, so that an error until then becomes a
 * reply with a status of its own: this rejects with it.
 * @param events returned to when the connection closes
 */
export async function sendEvents<T>(
  reply: FastifyReply,
  events: AsyncIterable<T>,
  { contentType, signal, print, last, onError }: EventStreamOptions<T>,
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
      if (!write(raw, print(next.value))) await room(raw);
      next = await iterator.next();
    }
    if (last !== undefined && !signal.aborted) write(raw, last);
  } catch (error) {
    if (!signal.aborted) write(raw, onError(error));
  } finally {
    await iterator.return?.();
    raw.end();
  }
}

/** False: a slow client has not taken what it was sent. */
function write(raw: ServerResponse, data: string): boolean {
  // Without the cork Node would send it when all else that can run has run.
  raw.cork();
  raw.write(`data: ${data}\n\n`);
  raw.uncork();
  return !raw.writableNeedDrain;
}

/** Waits until a slow client has taken what it was sent: at most one event is ahead of the socket's buffer. */
async function room(raw: ServerResponse): Promise<void> {
  if (raw.destroyed) return;
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
