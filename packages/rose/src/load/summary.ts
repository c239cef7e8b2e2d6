import type { RequestRecord } from './record.ts';

/** Of one measure, in milliseconds. */
export interface Percentiles {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Of the time in which so many answers come at once. */
export interface Together {
  readonly answers: number;
  readonly seconds: number;
  readonly outputTokensPerSecond: number;
}

export interface LoadSummary {
  readonly requests: number;
  readonly done: number;
  readonly cancelled: number;
  /** Requests that failed, by reason. */
  readonly errors: Readonly<Record<string, { readonly count: number; readonly example: string }>>;
  /** From the first arrival to the last end. */
  readonly seconds: number;
  /** Answered in full, a second. */
  readonly requestsPerSecond: number;
  readonly inputTokens: number;
  /** Input tokens that the server found computed. */
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly inputTokensPerSecond: number;
  readonly outputTokensPerSecond: number;
  /** While as many answers come at once as ever do: nothing of waiting for first tokens, or for the last answers, is in it. */
  readonly together?: Together;
  /** Answers whose server did not say how many tokens they have: there an event counts as a token. */
  readonly countedByEvents: number;
  /** From the scheduled arrival to the first text. */
  readonly timeToFirstToken?: Percentiles;
  /** From one event with text to the next. */
  readonly interToken?: Percentiles;
  /** Of each answer: (last text - first text) / (tokens - 1). */
  readonly timePerOutputToken?: Percentiles;
  /** From the scheduled arrival to the end of answers in full. */
  readonly endToEnd?: Percentiles;
  /** From the scheduled arrival to the sending: if this grows, the generator is the bottleneck. */
  readonly sendLag?: Percentiles;
}

export function summarize(records: readonly RequestRecord[]): LoadSummary {
  const done = records.filter(({ outcome }) => outcome.kind === 'done');
  const answered = records.filter(({ times }) => times.length > 0);
  const first = records.reduce((least, { scheduled }) => Math.min(least, scheduled), Infinity);
  const last = records.reduce((most, { ended }) => Math.max(most, ended), -Infinity);
  const seconds = (last - first) / 1000;
  const inputTokens = sum(records, ({ usage }) => usage?.inputTokens ?? 0);
  const outputTokens = sum(records, tokensOf);
  const gaps = answered.flatMap(({ times }) => times.slice(1).map((time, i) => time - times[i]));
  const errors: Record<string, { count: number; example: string }> = {};
  for (const { outcome } of records) {
    if (outcome.kind === 'failed') (errors[outcome.reason] ??= { count: 0, example: outcome.message }).count++;
  }
  const together = whileMostAnswer(answered);
  const measures = {
    timeToFirstToken: percentiles(answered.map(({ times, scheduled }) => times[0] - scheduled)),
    interToken: percentiles(gaps),
    timePerOutputToken: percentiles(
      done
        .filter((record) => tokensOf(record) > 1 && record.times.length > 1)
        .map((record) => (record.times.at(-1)! - record.times[0]) / (tokensOf(record) - 1)),
    ),
    endToEnd: percentiles(done.map(({ ended, scheduled }) => ended - scheduled)),
    sendLag: percentiles(records.map(({ sent, scheduled }) => sent - scheduled)),
  };
  return {
    requests: records.length,
    done: done.length,
    cancelled: records.filter(({ outcome }) => outcome.kind === 'cancelled').length,
    errors,
    seconds,
    requestsPerSecond: done.length / seconds,
    inputTokens,
    cachedTokens: sum(records, ({ usage }) => usage?.cachedTokens ?? 0),
    outputTokens,
    inputTokensPerSecond: inputTokens / seconds,
    outputTokensPerSecond: outputTokens / seconds,
    ...(together && { together }),
    countedByEvents: done.filter(({ usage }) => usage === undefined).length,
    // A measure that no request has is left out.
    ...Object.fromEntries(Object.entries(measures).filter(([, measure]) => measure !== undefined)),
  };
}

/** Events of each answer, on average, for which so many must come at once: else a burst of events is taken for a rate. */
const EVENTS_TOGETHER = 10;

/** Answers come from their first event to their last; an answer's tokens are spread over its events evenly. */
function whileMostAnswer(answered: readonly RequestRecord[]): Together | undefined {
  const points = answered.flatMap((record) => {
    const { times } = record;
    if (times.length === 1) return [];
    const tokens = tokensOf(record) / times.length;
    return times.map((at, i) => ({ at, tokens, change: Number(i === 0) - Number(i === times.length - 1) }));
  });
  // At the same moment who begins is there before another one ends.
  points.sort((a, b) => a.at - b.at || b.change - a.change);
  let answers = 0;
  let most = 0;
  for (const { change } of points) {
    answers += change;
    most = Math.max(most, answers);
  }
  let [milliseconds, tokens] = [0, 0];
  let [since, events, own] = [0, 0, 0];
  for (const { at, change, tokens: more } of points) {
    // What comes at the moment in which the last one begins was made before.
    if (answers === most && at > since) {
      events++;
      own += more;
    }
    answers += change;
    if (answers === most && change > 0) [since, events, own] = [at, 0, 0];
    if (answers === most - 1 && change < 0 && events >= EVENTS_TOGETHER * most) {
      milliseconds += at - since;
      tokens += own;
    }
  }
  if (milliseconds === 0) return undefined;
  return { answers: most, seconds: milliseconds / 1000, outputTokensPerSecond: (1000 * tokens) / milliseconds };
}

function tokensOf({ usage, times }: RequestRecord): number {
  return usage?.outputTokens ?? times.length;
}

/** Nearest rank: a value that was measured. Undefined for no values. */
export function percentiles(values: readonly number[]): Percentiles | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return {
    count: sorted.length,
    mean: sum(values, (value) => value) / sorted.length,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    max: sorted[sorted.length - 1],
  };
}

function sum<T>(list: readonly T[], of: (item: T) => number): number {
  return list.reduce((total, item) => total + of(item), 0);
}
