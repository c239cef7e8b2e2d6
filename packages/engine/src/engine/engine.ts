import type { EngineEvent, EngineRequest } from './request.ts';

/** What every engine is to its host: requests go in, steps are run, events come out. */
export interface Engine {
  /**
   * Queue a request. One that cannot be served fails by an event of the next step.
   * @param now wall-clock milliseconds since the epoch
   */
  submit(request: EngineRequest, now: number): void;
  /** The request is forgotten when the next step's batch is formed. */
  cancel(id: number): void;
  readonly hasWork: boolean;
  /**
   * Compose a batch, run it, and report what came of it. Never throws for a fault of the device: requests that cannot be
   * served because of it fail by events, and `failure` says what the device fails with.
   * @param now wall-clock milliseconds since the epoch, read once by the host
   */
  step(now: number, sink: EventSink): Promise<StepSummary>;
  /** Why the last step failed, if it did: requests that it was not the fault of go on. */
  readonly stepFault: Error | undefined;
  /** Why the device cannot run even the smallest step; undefined once a step succeeds again. */
  readonly failure: Error | undefined;
  readonly state: EngineState;
  /** Run the smallest step there is while nothing else runs, to learn whether a step would succeed. */
  probe(): Promise<void>;
  close(): void;
}

/** Takes what a step brings. Tokens without log-probabilities come as numbers, because most events are those. */
export interface EventSink {
  token(id: number, token: number): void;
  event(event: EngineEvent): void;
}

/** What a step carried; zeros when nothing could run. */
export interface StepSummary {
  readonly sequences: number;
  readonly rows: number;
}

/** How an engine stands after a step, for metrics. The last five only grow. */
export interface EngineState {
  readonly running: number;
  readonly waiting: number;
  /** Pages in use by running sequences, or kept for prompts to come; pages there are. */
  readonly usedPages: number;
  readonly cachedPages: number;
  readonly pages: number;
  readonly cachedTokens: number;
  /** Sequences that yielded because pages ran out. */
  readonly preemptions: number;
  /** Sequences that gave their place to another tenant or a higher priority. */
  readonly turns: number;
  /** Steps that failed, whether or not a request did because of it. */
  readonly stepFailures: number;
}

/** The clock that tells how long steps take: milliseconds from any beginning. */
export type Clock = () => number;
