/** What became of one request of the soak. */
export interface Reply {
  /** 0: the client hung up first. */
  readonly status: number;
  readonly body: string;
  readonly retryAfter: string | null;
}

export interface Call {
  readonly method?: string;
  readonly path: string;
  /** JSON, or text as it is. */
  readonly body?: unknown;
  /** Whose API key the request carries. */
  readonly tenant?: string;
  /** Hang up after so many milliseconds. */
  readonly cancelMs?: number;
  /** Wait so long before the answer is read. */
  readonly sleepMs?: number;
}

/** A request that has not ended after so long is stuck. */
export const STUCK_MS = 120_000;

/** Sends a call and reads its answer to the end. @throws Error for a request that is stuck or a connection that breaks */
export async function call(
  url: string,
  { method = 'POST', path, body, tenant, cancelMs, sleepMs }: Call,
): Promise<Reply> {
  const hangUp = new AbortController();
  const stuck = AbortSignal.timeout(STUCK_MS);
  const timer = cancelMs === undefined ? undefined : setTimeout(() => hangUp.abort(), cancelMs);
  try {
    const response = await fetch(url + path, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(tenant !== undefined && { authorization: `Bearer ${tenant}` }),
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      signal: AbortSignal.any([hangUp.signal, stuck]),
    });
    if (sleepMs !== undefined) await new Promise((resolve) => setTimeout(resolve, sleepMs));
    return { status: response.status, body: await response.text(), retryAfter: response.headers.get('retry-after') };
  } catch (error) {
    if (hangUp.signal.aborted && !stuck.aborted) return { status: 0, body: '', retryAfter: null };
    if (stuck.aborted) throw new Error(`stuck: no end in ${STUCK_MS / 1000} s`, { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
