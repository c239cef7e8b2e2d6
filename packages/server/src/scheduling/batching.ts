import type { Job } from './job.ts';

/** How requests become batches. */
export interface Batching {
  /** Rows of a batch at most. */
  readonly maxBatchSize: number;
  /** Sizes at which a batch is executed at once. */
  readonly preferred: readonly number[];
  /** Nanoseconds that a request may wait for others. */
  readonly delay: number;
  /** Inputs whose shapes may differ within a batch. */
  readonly ragged: ReadonlySet<string>;
}

/** A batch to execute now, or how long to wait for more. */
export type Decision = { readonly batch: readonly Job[] } | { readonly waitNs: number };

/**
 * Triton's dynamic batcher: take requests in order as long as they fit and have the same shapes. A preferred size is
 * executed at once; another one when it cannot grow, or when its oldest request has waited long enough.
 * @param jobs those that wait, first come first; not empty
 */
export function nextBatch(
  jobs: readonly Job[],
  { maxBatchSize, preferred, delay, ragged }: Batching,
  now: number,
): Decision {
  const largest = Math.max(...preferred);
  const shape = shapeOf(jobs[0], ragged);
  let count = 0;
  let rows = 0;
  /** How many requests make the largest preferred batch so far. */
  let best = 0;
  let full = false;
  let oldest = Infinity;
  for (const job of jobs) {
    if (count > 0) {
      if (rows + job.rows > largest && best === 0) best = count;
      full = rows + job.rows > maxBatchSize || shapeOf(job, ragged) !== shape;
      if (full) break;
    }
    rows += job.rows;
    count++;
    oldest = Math.min(oldest, job.arrived);
    if (preferred.includes(rows)) best = count;
  }
  const late = delay > 0 && now - oldest >= delay;
  if (best > 0 && !late) return { batch: jobs.slice(0, best) };
  if (full || rows >= largest || late || delay === 0) return { batch: jobs.slice(0, count) };
  return { waitNs: delay - (now - oldest) };
}

/** Requests with the same text have the same inputs of the same shapes, rows apart. */
function shapeOf({ request }: Job, ragged: ReadonlySet<string>): string {
  let text = '';
  const inputs = [...request.inputs.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, shape } of inputs) {
    text += ragged.has(name) ? `${name};` : `${name}:${shape.slice(1).join(',')};`;
  }
  return text;
}
