import type { EngineOptions } from '../backend/engine.ts';

/** Who decides what is loaded: the start alone, clients, or the directory as it changes. */
export type ControlMode = 'none' | 'explicit' | 'poll';

export interface RepositoryOptions {
  readonly directories: readonly string[];
  /** Default `none`. */
  readonly mode?: ControlMode;
  /** Names to load at the start in mode `explicit`; `*` alone: all. */
  readonly loadModels?: readonly string[];
  /** Seconds between two looks at the directories in mode `poll`. Default 15. */
  readonly pollSeconds?: number;
  /**
   * Requests under way may take so many milliseconds when their model is unloaded or replaced; those that have not ended
   * by then fail. A load that is under way may take as long before it is given up. Default 30,000.
   */
  readonly unloadMs?: number;
  /** Bytes of a cache for responses of models whose configuration enables it. Left out: there is none. */
  readonly responseCacheBytes?: number;
  /** Instances execute by Triton's rules of resources and priorities. Left out: each when it can. */
  readonly rateLimit?: {
    /** How much there is of each resource; left out: as much as the instance wants that wants most. */
    readonly resources?: ReadonlyMap<string, number>;
  };
  /** Whether a model that cannot be loaded at the start ends it. Default true. */
  readonly exitOnError?: boolean;
  /** How checkpoints are found and run. */
  readonly engine?: EngineOptions;
}
