/**
 * - `refused`: the server answered with an error, whose status and message these are;
 * - `network`: no answer came, because the server cannot be reached or the connection broke;
 * - `timeout`: it did not come within `timeoutMs`;
 * - `protocol`: it came, and is not what the protocol says.
 */
export type ErrorKind = 'refused' | 'network' | 'timeout' | 'protocol';

/** Why a call failed. A call that its `signal` ends fails with the signal's reason instead. */
export class InferenceError extends Error {
  override readonly name = 'InferenceError';
  readonly kind: ErrorKind;
  /** The server's status: of HTTP a number such as 404, of gRPC a name such as `NOT_FOUND`; undefined: it gave none. */
  readonly status: number | string | undefined;
  /** When the server says it is worth asking again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    kind: ErrorKind,
    message: string,
    more: { status?: number | string; retryAfterSeconds?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? {} : { cause: more.cause });
    this.kind = kind;
    this.status = more.status;
    this.retryAfterSeconds = more.retryAfterSeconds;
  }
}
