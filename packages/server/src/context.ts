import type { FastifyBaseLogger } from 'fastify';
import type { ModelHub } from '@rose/engine';

/** What every protocol of one server shares. */
export interface ServerContext {
  readonly hub: ModelHub;
  /** Rose's version. */
  readonly version: string;
  /** Largest body, and largest tensor that one may declare. */
  readonly maxBodyBytes: number;
  /** A client that takes nothing of what it is sent for so long is given up. */
  readonly sendTimeoutMs: number;
  readonly log: FastifyBaseLogger;
}
