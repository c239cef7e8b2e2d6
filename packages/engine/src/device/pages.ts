import { PAGE_TOKENS } from '@rose/cpu';
import { RoseError } from '../errors.ts';
import type { LayerGroup } from '../model/groups.ts';
import type { ModelSpec } from '../model/spec.ts';
import type { CacheFormat, LoadOptions, PageReport } from './device.ts';

/** Pages where no share of memory is given; one full context may take more. */
const DEFAULT_CACHE_BYTES = 1024 ** 3;
/** Bytes of an element of keys and values. */
const CACHE_BYTES: Readonly<Record<CacheFormat, number>> = { f32: 4, bf16: 2, f16: 2, fp8: 1 };

interface CacheOptions {
  readonly cacheDtype: CacheFormat;
}

/**
 * How many pages each group of layers gets. As many as all sequences at full context need, if there is room; otherwise
 * every group gets the same share of that, so that none runs out long before the others; and where not even one full
 * context fits, the context is what fits. `kvCacheMib` is room like any other.
 *
 * A sequence at position p needs pages for all of its context where attention is full. Where it has a window, it needs
 * those the window sees, those of the prompt rows of one step, and as many again for the place where its prompt ended,
 * which the prefix tree keeps.
 * @throws RoseError `invalid` where `kvCacheMib` has no room for a page
 */
export function planPages(
  spec: ModelSpec,
  layers: readonly LayerGroup[],
  options: CacheOptions & Pick<LoadOptions, 'memoryShare' | 'kvCacheMib' | 'maxSequences'> & { readonly rows: number },
  room: number,
): PageReport[] {
  const bytesOf = layers.map((group) => pageBytes(spec, group, options));
  const chunk = Math.ceil(options.rows / PAGE_TOKENS);
  const needed = (tokens: number): number[] =>
    layers.map(({ window }) => {
      const all = Math.ceil(tokens / PAGE_TOKENS);
      return window === undefined ? all : Math.min(all, 2 * (Math.ceil(window / PAGE_TOKENS) + 1) + chunk);
    });
  const cost = (tokens: number): number => sum(needed(tokens), (pages, group) => pages * bytesOf[group]);

  const whole = cost(spec.contextLength);
  const most =
    options.kvCacheMib !== undefined
      ? options.kvCacheMib * 2 ** 20
      : options.memoryShare === undefined
        ? Math.max(whole, DEFAULT_CACHE_BYTES)
        : Infinity;
  const limit = Math.min(room, most);
  const contexts = Math.min(options.maxSequences, limit / whole);
  let counts: number[];
  if (contexts >= 1) counts = needed(spec.contextLength).map((pages) => Math.floor(pages * contexts));
  else {
    let tokens = Math.floor(contexts * spec.contextLength);
    while (tokens > 0 && cost(tokens) > limit) tokens -= PAGE_TOKENS;
    counts = needed(Math.max(tokens, 0));
  }
  if (most <= room && counts.some((pages) => pages < 1)) {
    const least = Number((cost(PAGE_TOKENS) / 2 ** 20).toPrecision(3));
    const message = `${PAGE_TOKENS} tokens of keys and values take ${least} MiB, more than the ${options.kvCacheMib} that --kv-cache-mib allows`;
    throw new RoseError('invalid', message, { param: 'kvCacheMib' });
  }
  return layers.map(({ window, layers: { length } }, group) => {
    const pages = counts[group];
    return { window, layers: length, pages, tokens: pages * PAGE_TOKENS, bytes: pages * bytesOf[group] };
  });
}

/** Bytes of one page in all layers of a group. */
export function pageBytes(spec: ModelSpec, { layers }: LayerGroup, options: CacheOptions): number {
  return sum(layers, (layer) => layerPageBytes(spec, layer, options));
}

/** Bytes of one page in one layer: keys and values of every key-value head. */
export function layerPageBytes(spec: ModelSpec, layer: number, options: CacheOptions): number {
  const { kvHeads, headDim } = spec.blocks[layer].mixer;
  return kvHeads * 2 * PAGE_TOKENS * headDim * CACHE_BYTES[options.cacheDtype];
}

function sum<T>(items: readonly T[], size: (item: T, index: number) => number): number {
  return items.reduce((total, item, index) => total + size(item, index), 0);
}
