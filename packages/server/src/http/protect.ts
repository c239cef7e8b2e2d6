import assert from 'node:assert/strict';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Access, Category } from '../access/access.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    category?: Category;
  }
}

/** Endings of Triton's paths, and what they belong to. */
const TRITON: readonly (readonly [RegExp, Category])[] = [
  [/^\/v2\/health\/|\/ready$/, 'health'],
  [/\/(infer|generate|generate_stream)$/, 'inference'],
  [/^\/v2\/(system|cuda)sharedmemory/, 'shared-memory'],
  [/\/config$/, 'model-config'],
  [/^\/v2\/repository\//, 'model-repository'],
  [/\/stats$/, 'statistics'],
  [/\/trace\/setting$/, 'trace'],
  [/^\/v2\/logging$/, 'logging'],
  [/^\/v2$|^\/v2\/models\/:model(\/versions\/:version\S*)?$/, 'metadata'],
];

const OTHERS: Readonly<Record<string, Category>> = {
  '/v1/models': 'metadata',
  '/v1/models/*': 'metadata',
  '/tokenizer_info': 'metadata',
  '/rose/status': 'statistics',
  '/metrics': 'statistics',
  '/metrics/': 'statistics',
};

/** The group that a route's pattern belongs to; what is not Triton's own joins what it is like. */
export function categoryOf(route: string): Category {
  if (!route.startsWith('/v2')) return OTHERS[route] ?? 'inference';
  const found = TRITON.find(([pattern]) => pattern.test(route));
  assert(found, `the route ${route} belongs to no category`);
  return found[1];
}

/** Why a request is refused. */
export interface Refusal {
  readonly status: 401 | 403;
  readonly message: string;
}

/**
 * Let only those through to this instance's routes who may. Bodies of others are not read.
 * @param error what the instance's error handler makes the reply of
 */
export function protect(app: FastifyInstance, access: Access, error: (refusal: Refusal) => Error): void {
  if (access.open) return;
  // The pattern, not the path: there is one way to write it.
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, category: categoryOf(route.url) };
  });
  app.addHook('onRequest', (request, reply, done) => {
    const refusal = refusalOf(access, request);
    if (refusal === undefined) {
      done();
      return;
    }
    if (refusal.status === 401) reply.header('www-authenticate', 'Bearer');
    // A body may follow, which nobody wants.
    reply.header('connection', 'close');
    done(error(refusal));
  });
}

function refusalOf(access: Access, { routeOptions, headers }: FastifyRequest): Refusal | undefined {
  const { category } = routeOptions.config;
  // Nobody serves the path.
  if (category === undefined) return undefined;
  const header = (name: string): string | undefined => headers[name]?.toString();
  if (!access.hasKey(category, header)) {
    const message = "an API key is needed: send it as 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'";
    return { status: 401, message };
  }
  const missing = access.missingHeader(category, header);
  if (missing === undefined) return undefined;
  return { status: 403, message: `This API is restricted, expecting header '${missing}'` };
}
