import { RoseError } from '../errors.ts';
import type { ModelHub } from './api.ts';

/** A hub without models and without an engine, for servers whose models are others'. */
export function emptyHub(): ModelHub {
  return {
    models: [],
    stats: { device: 'none', restarts: 0 },
    get: (name) => {
      throw new RoseError('not_found', `there is no model '${name}'; loaded: none`, { param: 'model' });
    },
    ready: async () => true,
    drain: async () => {},
    close: async () => {},
  };
}
