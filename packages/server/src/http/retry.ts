import type { FastifyReply } from 'fastify';

/** Tell the client when it is worth trying again, where the error knows. */
export function sendRetryAfter(reply: FastifyReply, error: { readonly retryAfterSeconds: number | undefined }): void {
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', String(error.retryAfterSeconds));
}
