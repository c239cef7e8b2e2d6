/** What became of one request. All times are milliseconds of the generator's clock. */
export interface RequestRecord {
  /** When it should have been sent: latencies count from here, so a late generator or server hides nothing. */
  readonly scheduled: number;
  readonly sent: number;
  /** When each event with text came. */
  readonly times: readonly number[];
  readonly ended: number;
  readonly outcome: Outcome;
  /** As the server counts; undefined where it does not say. */
  readonly usage: Usage | undefined;
}

export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cachedTokens: number;
}

/** `failed`: the reason by which failures are counted, such as `HTTP 503` or `ECONNRESET`, and what the server said. */
export type Outcome =
  | { readonly kind: 'done' | 'cancelled' }
  | { readonly kind: 'failed'; readonly reason: string; readonly message: string };
