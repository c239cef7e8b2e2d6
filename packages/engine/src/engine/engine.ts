import type { EngineEvent, EngineRequest } from './request.ts';

/** What every engine is to its host: requests go in, steps are run, events come out. */
export interface Engine {
  /** Queue a request. One that cannot be served fails by an event of the next step. */
  submit(request: EngineRequest): void;
  /** The request is forgotten when the next step's batch is formed. */
  cancel(id: number): void;
  readonly hasWork: boolean;
  readonly running: number;
  readonly waiting: number;
  /**
   * Compose a batch, run it, and report what came of it. Never throws for a fault of the device: the requests of the
   * batch fail by events, and `failure` says why.
   * @param now wall-clock milliseconds since the epoch, read once by the host
   */
  step(now: number, emit: (event: EngineEvent) => void): Promise<StepSummary>;
  /** The last step's fault; undefined once a step succeeds again. */
  readonly failure: Error | undefined;
  /** Run the smallest step there is while nothing else runs, to learn whether a step would succeed. */
  probe(): Promise<void>;
  close(): void;
}

/** What a step carried; zeros when nothing could run. */
export interface StepSummary {
  readonly sequences: number;
  readonly rows: number;
}
