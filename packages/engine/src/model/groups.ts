import type { ModelSpec } from './spec.ts';

/** Layers whose keys and values live equally long, and so share page tables and a pool of pages. */
export interface LayerGroup {
  /** A token sees itself and `window - 1` tokens before it; undefined: all of them. */
  readonly window: number | undefined;
  /** Indices of the model's blocks. */
  readonly layers: readonly number[];
}

/**
 * A decoder's layers by window, layers without one first; a window as long as the context is none. An encoder's layers
 * are one group, whatever their windows: its pages do not outlive a step.
 */
export function layerGroups(spec: ModelSpec): LayerGroup[] {
  if (spec.head.kind !== 'logits') return [{ window: undefined, layers: spec.blocks.map((_, layer) => layer) }];
  const groups = new Map<number | undefined, number[]>();
  spec.blocks.forEach(({ mixer: { window } }, layer) => {
    const key = window !== undefined && window < spec.contextLength ? window : undefined;
    const layers = groups.get(key);
    if (layers === undefined) groups.set(key, [layer]);
    else layers.push(layer);
  });
  return [...groups]
    .map(([window, layers]) => ({ window, layers }))
    .toSorted((a, b) => (a.window ?? -1) - (b.window ?? -1));
}
