import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { contentEncoding, decompress } from './compression.ts';
import { readBody } from './read-body.ts';

/** Take bodies of any type as they are, on this instance alone. */
export function takeRawBodies(app: FastifyInstance, maxBytes: number): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_: FastifyRequest, body: IncomingMessage) => readBody(body, maxBytes));
}

/** The bytes of a request's body, decompressed. */
export async function bodyOf(request: FastifyRequest, maxBytes: number): Promise<Buffer> {
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const encoding = contentEncoding(request.headers['content-encoding']);
  return encoding === undefined ? body : decompress(body, encoding, maxBytes);
}
