import { METHODS } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** Path parameters; those that a route lacks are undefined. */
export interface PathParameters {
  readonly model: string;
  readonly version?: string;
}

export type Endpoint = (request: FastifyRequest<{ Params: PathParameters }>, reply: FastifyReply) => Promise<unknown>;

/**
 * Serve a path for one method, or two, and say that others are not allowed there.
 * @param refuse the reply to another method
 */
export function endpoint(
  app: FastifyInstance,
  methods: 'GET' | 'POST' | readonly ('GET' | 'POST')[],
  url: string,
  handler: Endpoint,
  refuse: (reply: FastifyReply) => unknown,
): void {
  const allowed: string[] = [methods].flat();
  if (allowed.includes('GET')) allowed.push('HEAD');
  app.route({ method: allowed, url, handler });
  const others = METHODS.filter((name) => !allowed.includes(name) && app.supportedMethods.includes(name));
  app.route({ method: others, url, handler: async (_, reply) => refuse(reply.header('allow', allowed.join(', '))) });
}
