import type { FastifyReply } from 'fastify';

/** The reply to a method that a page or a plain endpoint does not have. */
export function refuseMethod(reply: FastifyReply): FastifyReply {
  return reply.code(405).type('text/plain; charset=utf-8').send('Method Not Allowed\n');
}
