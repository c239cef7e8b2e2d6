import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/**
 * Who asks: a digest of the request's API key, so that the engine shares its time fairly between keys and never reuses
 * one key's computed prompts for another. Requests without a key are one tenant.
 */
export function tenantOf({ headers }: { readonly headers: IncomingHttpHeaders }): string {
  const key = headers.authorization ?? headers['x-api-key'];
  if (key === undefined || key.length === 0) return '';
  return createHash('sha256').update(String(key)).digest('base64url');
}
