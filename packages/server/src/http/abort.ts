import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';

/** Of each connection one for all its requests: a signal of its own costs a small request more than its routing. */
const signals = new WeakMap<Socket, AbortSignal>();

/**
 * Aborts when the connection closes: nobody waits for the answer any more. Connections are kept for further requests, so
 * that whoever listens must stop when it is done.
 */
export function abortOnClose({ raw }: FastifyRequest): AbortSignal {
  // Of the request: an answer that waits for an earlier one of its connection has no socket yet.
  const { socket } = raw;
  if (socket.destroyed) return AbortSignal.abort();
  const known = signals.get(socket);
  if (known !== undefined) return known;
  const controller = new AbortController();
  socket.once('close', () => controller.abort());
  signals.set(socket, controller.signal);
  return controller.signal;
}
