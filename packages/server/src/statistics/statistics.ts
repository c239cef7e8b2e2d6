import { Distribution, Recent } from './distribution.ts';

/** How often something happened and how long it took altogether, in nanoseconds. */
export interface Duration {
  count: number;
  ns: number;
}

/** Times of an executed batch, in nanoseconds. Each of its requests counts them in full, as Triton does. */
export interface BatchTimes {
  readonly computeInput: number;
  readonly computeInfer: number;
  readonly computeOutput: number;
}

/** Buckets of Triton's own first-response histogram, and a few below and between them. */
const FIRST_RESPONSE_MS = [10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10_000];

/** Triton's reasons for failures. */
export type FailureReason = 'REJECTED' | 'CANCELED' | 'BACKEND' | 'OTHER';

interface BatchStatistics {
  readonly computeInput: Duration;
  readonly computeInfer: Duration;
  readonly computeOutput: Duration;
}

interface ResponseStatistics {
  readonly computeInfer: Duration;
  readonly computeOutput: Duration;
  readonly success: Duration;
  readonly fail: Duration;
  readonly emptyResponse: Duration;
  readonly cancel: Duration;
}

/**
 * What one version of a model did since it was loaded; everything only grows but `pending`. Clients take differences:
 * queue.count is success.count, and each compute count too, less hits of the response cache.
 */
export class ModelStatistics {
  /** Milliseconds since the epoch. */
  lastInference = 0;
  /** Rows of all successful requests; a request without a batch dimension is one. */
  inferenceCount = 0;
  /** Batches that were executed. */
  executionCount = 0;
  /** Requests that wait and are not being executed. */
  pending = 0;
  readonly success: Duration = none();
  readonly fail: Duration = none();
  readonly queue: Duration = none();
  readonly computeInput: Duration = none();
  readonly computeInfer: Duration = none();
  readonly computeOutput: Duration = none();
  readonly cacheHit: Duration = none();
  readonly cacheMiss: Duration = none();
  /** Milliseconds from the request to its first response. */
  readonly firstResponseMs: Distribution = new Distribution(FIRST_RESPONSE_MS);
  /** Of the latest successful requests, in nanoseconds. */
  readonly recent: Readonly<Record<'request' | 'queue' | keyof BatchTimes, Recent>> = {
    request: new Recent(),
    queue: new Recent(),
    computeInput: new Recent(),
    computeInfer: new Recent(),
    computeOutput: new Recent(),
  };
  /** How long loading took; undefined: not measured. */
  loadSeconds: number | undefined;
  readonly failures: Record<FailureReason, number> = { REJECTED: 0, CANCELED: 0, BACKEND: 0, OTHER: 0 };
  /** By the size of the executed batch. */
  readonly batches: Map<number, BatchStatistics> = new Map();
  /** Of decoupled models, by the response's place among those of its request. */
  readonly responses: Map<number, ResponseStatistics> = new Map();

  /** A request that was answered to its end. */
  succeed(rows: number, total: number, queued: number, times: BatchTimes): void {
    this.lastInference = Date.now();
    this.inferenceCount += rows;
    add(this.success, total);
    add(this.queue, queued);
    add(this.computeInput, times.computeInput);
    add(this.computeInfer, times.computeInfer);
    add(this.computeOutput, times.computeOutput);
    const { recent } = this;
    recent.request.add(total);
    recent.queue.add(queued);
    recent.computeInput.add(times.computeInput);
    recent.computeInfer.add(times.computeInfer);
    recent.computeOutput.add(times.computeOutput);
  }

  /** A request that the response cache answered; it is no inference. All in nanoseconds. */
  hit(total: number, queued: number, lookup: number): void {
    add(this.success, total);
    add(this.queue, queued);
    add(this.cacheHit, lookup);
    this.recent.request.add(total);
    this.recent.queue.add(queued);
    this.firstResponseMs.add(total / 1e6);
  }

  /** The cache had no answer to a request that succeeded; so much time it took besides. */
  missed(ns: number): void {
    add(this.cacheMiss, ns);
    this.success.ns += ns;
  }

  failed(total: number, reason: FailureReason): void {
    add(this.fail, total);
    this.failures[reason]++;
  }

  executed(size: number, times: BatchTimes): void {
    this.executionCount++;
    this.lastInference = Date.now();
    let batch = this.batches.get(size);
    if (batch === undefined) {
      batch = { computeInput: none(), computeInfer: none(), computeOutput: none() };
      this.batches.set(size, batch);
    }
    add(batch.computeInput, times.computeInput);
    add(batch.computeInfer, times.computeInfer);
    add(batch.computeOutput, times.computeOutput);
  }

  /** @param index the response's place among those of its request */
  responded(index: number, kind: 'success' | 'fail' | 'emptyResponse' | 'cancel', infer: number, output: number): void {
    let response = this.responses.get(index);
    if (response === undefined) {
      response = {
        computeInfer: none(),
        computeOutput: none(),
        success: none(),
        fail: none(),
        emptyResponse: none(),
        cancel: none(),
      };
      this.responses.set(index, response);
    }
    if (kind !== 'cancel') add(response.computeInfer, infer);
    if (kind === 'success' || kind === 'fail') add(response.computeOutput, output);
    add(response[kind], infer + output);
  }
}

function none(): Duration {
  return { count: 0, ns: 0 };
}

function add(duration: Duration, ns: number): void {
  duration.count++;
  duration.ns += Math.max(0, ns);
}
