import { InferenceError } from './errors.ts';
import type { CallOptions, ClientOptions } from './request.ts';

const DEFAULT_RETRIES = 2;
/** Waits before the second, third... attempt; the last stands for all further ones. */
const WAIT_MS = [100, 400, 1000];
const UNAVAILABLE: ReadonlySet<unknown> = new Set([502, 503, 504, 'UNAVAILABLE']);

/** One attempt of a call: its signal ends with the caller's or with the time that the call may take. */
export type Attempt<T> = (signal: AbortSignal | undefined) => Promise<T>;

/**
 * Make a call, again where that may help and does no harm, within the time that it may take altogether.
 * @param reads whether the call changes nothing on the server
 * @throws the caller's reason where its signal ended the call; InferenceError otherwise
 */
export async function call<T>(
  client: ClientOptions,
  options: CallOptions,
  reads: boolean,
  attempt: Attempt<T>,
): Promise<T> {
  const limit = limitOf(client, options);
  const retries = options.retries ?? (reads ? (client.retries ?? DEFAULT_RETRIES) : 0);
  for (let made = 0; ; made++) {
    try {
      options.signal?.throwIfAborted();
      return await attempt(limit.signal);
    } catch (error) {
      const known = limit.explain(error);
      if (made >= retries || !isWorthAnother(known)) throw known;
      const wait = (known.retryAfterSeconds ?? 0) * 1000 || WAIT_MS[Math.min(made, WAIT_MS.length - 1)];
      await pause(wait, limit.signal).catch((reason: unknown) => {
        throw limit.explain(reason);
      });
    }
  }
}

/** The time that a call may take, and what ended it. */
export interface Limit {
  readonly signal: AbortSignal | undefined;
  /** What to tell the caller of an error: whose fault it was. */
  explain(error: unknown): unknown;
}

export function limitOf(client: ClientOptions, { signal, timeoutMs = client.timeoutMs }: CallOptions): Limit {
  const timer = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signals = [signal, timer].filter((one) => one !== undefined);
  return {
    signal: signals.length > 1 ? AbortSignal.any(signals) : signals[0],
    explain: (error) => {
      if (signal?.aborted === true) return signal.reason;
      if (timer?.aborted === true) {
        return new InferenceError('timeout', `the call did not end within ${timeoutMs} ms`, { cause: error });
      }
      return error;
    },
  };
}

function isWorthAnother(error: unknown): error is InferenceError {
  if (!(error instanceof InferenceError)) return false;
  return error.kind === 'network' || (error.kind === 'refused' && UNAVAILABLE.has(error.status));
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', end);
      resolve();
    }, ms);
    signal?.addEventListener('abort', end, { once: true });
  });
}
