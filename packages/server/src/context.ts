import type { ModelHub } from '@rose/engine';
import type { Origins } from './http/cors.ts';
import type { ServerLog } from './logging/log.ts';
import type { SharedMemoryRegions } from './shared-memory/regions.ts';
import type { Traces } from './trace/traces.ts';
import type { TritonModels } from './triton/models.ts';

/** What every protocol of one server shares. */
export interface ServerContext {
  readonly hub: ModelHub;
  /** The hub's models and those of the repository, in Triton's words. */
  readonly models: TritonModels;
  /** Rose's version. */
  readonly version: string;
  /** Largest body, and largest tensor that one may declare. */
  readonly maxBodyBytes: number;
  /** A request must have come completely within this time. */
  readonly receiveTimeoutMs: number;
  /** A client that takes nothing of what it is sent for so long is given up. */
  readonly sendTimeoutMs: number;
  readonly log: ServerLog;
  readonly traces: Traces;
  readonly regions: SharedMemoryRegions;
  readonly origins: Origins;
}
