import type { ModelSpec } from '../../model/spec.ts';
import { layerPageBytes } from '../pages.ts';
import type { Gpu, GpuStream } from './gpu.ts';
import type { CudaMemoryPlan } from './memory.ts';
import type { CacheLayer } from './parts.ts';

/** Keys and values of every layer, in one piece of memory for each group of layers. */
export class Pages {
  readonly layers: readonly CacheLayer[];
  readonly #groups: CudaMemoryPlan['layers'];
  readonly #pages: readonly number[];

  constructor(gpu: Gpu, spec: ModelSpec, { layers: groups, pages, cache: cacheDtype }: CudaMemoryPlan) {
    this.#groups = groups;
    this.#pages = pages;
    const decoder = spec.head.kind === 'logits';
    const bytesOf = (layer: number, group: number): number =>
      pages[group] * layerPageBytes(spec, layer, { cacheDtype });
    const layers: CacheLayer[] = [];
    groups.forEach((group, g) => {
      const sizes = group.layers.map((layer) => bytesOf(layer, g));
      // Nothing of an encoder's layer outlives it: all share one place.
      const memory = gpu.alloc(decoder ? sizes.reduce((sum, size) => sum + size, 0) : Math.max(...sizes));
      let at = 0;
      group.layers.forEach((layer, i) => {
        const half = sizes[i] / 2;
        layers[layer] = { keys: memory.slice(at, half), values: memory.slice(at + half, half), group: g };
        if (decoder) at += sizes[i];
      });
    });
    this.layers = layers;
  }

  /** Copy a page in every layer of a group. */
  copy(stream: GpuStream, group: number, from: number, to: number): void {
    for (const layer of this.#groups[group].layers) {
      const { keys, values } = this.layers[layer];
      for (const half of [keys, values]) {
        const bytes = half.bytes / this.#pages[group];
        stream.copy(half.slice(to * bytes, bytes), half.slice(from * bytes, bytes));
      }
    }
  }
}
