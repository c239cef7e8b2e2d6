import type { Registry } from 'prom-client';
import type { ResponseCache } from '../cache/response-cache.ts';
import { collected } from './collected.ts';

/** What the response cache of the repository holds; hits and misses are each model's own. */
export function cacheMetrics(registry: Registry, cache: () => ResponseCache | undefined): void {
  const each = (type: 'counter' | 'gauge', name: string, help: string, read: (of: ResponseCache) => number): void =>
    collected(registry, { name: `rose_response_cache_${name}`, help, type }, () => {
      const of = cache();
      return of === undefined ? [] : [{ labels: {}, value: read(of) }];
    });
  each('gauge', 'bytes', 'Bytes of responses in the response cache', ({ bytes }) => bytes);
  each('gauge', 'capacity_bytes', 'Bytes that the response cache may have', ({ capacity }) => capacity);
  each('gauge', 'entries', 'Responses in the response cache', ({ entries }) => entries);
  each('counter', 'evictions_total', 'Responses that made room for others', ({ evictions }) => evictions);
}
