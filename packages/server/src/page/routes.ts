import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';
import { endpoint } from '../http/endpoint.ts';
import { refuseMethod } from '../http/plain.ts';

/** Nothing but what this server itself serves may run on the page or be reached from it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const FILES: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/page/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page/icon.svg': ['icon.svg', 'image/svg+xml'],
};

/** GET /: the page, and the files that belong to it. */
export function pageRoutes(app: FastifyInstance): void {
  for (const [url, [file, type]] of Object.entries(FILES)) {
    const content = readFileSync(new URL(file, import.meta.url));
    const tag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`;
    endpoint(
      app,
      'GET',
      url,
      async (request, reply) => {
        // A browser asks each time and is told in a few bytes that nothing changed: a new version shows at once.
        reply.headers({
          'cache-control': 'no-cache',
          etag: tag,
          'content-security-policy': POLICY,
          'x-content-type-options': 'nosniff',
          'referrer-policy': 'no-referrer',
        });
        if (request.headers['if-none-match'] === tag) return reply.code(304).send();
        return reply.type(type).send(content);
      },
      refuseMethod,
    );
  }
}
